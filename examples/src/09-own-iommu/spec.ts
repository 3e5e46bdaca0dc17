/** The manual of the plain IOMMU, which exists in this example only: four registers and one kind of table entry. */
import { addr, bit, layout, oneOf, register, reserved, uint } from "@iommukit/core";

const SPEC = "plain IOMMU";

export const CTRL = register(
  { name: "CTRL", offset: 0x00, bits: 32, spec: SPEC },
  { EN: bit(0, "translate; else everything passes"), RES0: reserved(31, 1) },
);

export const DEVTAB = register(
  { name: "DEVTAB", offset: 0x08, bits: 64, spec: SPEC },
  {
    RES0: reserved(11, 0),
    ADDR: addr(51, 12, "address of the device table: an entry for each requester id"),
    RES0_52: reserved(63, 52),
  },
);

export const INVALIDATE = register(
  { name: "INVALIDATE", offset: 0x10, bits: 32, spec: SPEC },
  {
    RID: uint(15, 0, "a write forgets all that is cached of this requester", { access: "wo" }),
    RES0: reserved(31, 16),
  },
);

const REASONS = {
  "no device entry": 0,
  "not mapped": 1,
  "not writable": 2,
  "no memory where a table should be": 3,
} as const;

export type Reason = keyof typeof REASONS;

export const FAULT = register(
  {
    name: "FAULT",
    offset: 0x18,
    bits: 64,
    spec: SPEC,
    summary: "the first fault; later ones are lost until F is clear",
  },
  {
    F: bit(0, "there is one", { access: "w1c" }),
    WRITE: bit(1, "the request was a write", { access: "ro" }),
    REASON: oneOf(3, 2, REASONS, "which check failed", { access: "ro" }),
    RES0: reserved(11, 4),
    PAGE: addr(47, 12, "address of the page", { access: "ro" }),
    RID: uint(63, 48, "requester id", { access: "ro" }),
  },
);

export const REGISTERS = [CTRL, DEVTAB, INVALIDATE, FAULT];

export const DEVICE_ENTRY = layout(
  { name: "device entry", bits: 64, spec: SPEC },
  {
    V: bit(0, "the requester may access memory"),
    RES0: reserved(11, 1),
    ROOT: addr(51, 12, "address of its x86-64 page table, four levels"),
    RES0_52: reserved(63, 52),
  },
);
