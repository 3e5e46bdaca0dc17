/** Entry of the page request queue, as hardware writes it (VT-d 7.4.1.1). */
import { addr, bit, layout, reserved, uint } from "@iommukit/core";

export const PAGE_REQUEST_TYPE = 1;

export const PAGE_REQUEST_DESCRIPTOR = layout(
  { name: "Page Request Descriptor", bits: 256, spec: "VT-d 7.4.1.1" },
  {
    TYPE: uint(7, 0, "1: page group request"),
    PP: bit(8, "the request has a PASID"),
    R0: reserved(15, 9),
    RID: uint(31, 16, "requester id"),
    PASID: uint(51, 32, "PASID"),
    EXE: bit(52, "execute is requested", { condition: "PP" }),
    PM: bit(53, "privileged mode is requested", { condition: "PP" }),
    R1: reserved(63, 54),
    RD: bit(64, "read is requested"),
    WR: bit(65, "write is requested"),
    LPIG: bit(66, "last page request of its group"),
    PRGI: uint(75, 67, "page request group index"),
    ADDR: addr(127, 76, "page address"),
    R2: reserved(255, 128),
  },
);

/** Response codes of a page group response descriptor (H21). */
export const PageResponseCode = { SUCCESS: 0, INVALID: 1, FAILURE: 15 } as const;
