/** Interrupt remapping table entries and the address and data of remappable interrupt requests (VT-d 5.1, 9.9, 9.10). */
import { bit, layout, oneOf, reserved, uint } from "@iommukit/core";

const SOURCE = {
  SID: uint(79, 64, "source-id"),
  SQ: uint(81, 80, "source-id qualifier: which low bits of the function number are ignored"),
  SVT: oneOf(83, 82, { none: 0, sourceId: 1, busRange: 2 }, "source validation"),
} as const;

export const IRTE = layout(
  { name: "Interrupt Remapping Table Entry", bits: 128, spec: "VT-d 9.9", summary: "Remapped interrupts (IM = 0)." },
  {
    P: bit(0, "present"),
    FPD: bit(1, "fault processing disable"),
    DM: oneOf(2, 2, { physical: 0, logical: 1 }, "destination mode"),
    RH: bit(3, "redirection hint"),
    TM: oneOf(4, 4, { edge: 0, level: 1 }, "trigger mode"),
    DLM: uint(7, 5, "delivery mode"),
    AVAIL: uint(11, 8, "for software"),
    R0: reserved(14, 12),
    IM: oneOf(15, 15, { remapped: 0, posted: 1 }, "interrupt mode"),
    V: uint(23, 16, "vector"),
    R1: reserved(31, 24),
    DST: uint(63, 32, "destination: 32-bit APIC id, or bits 15:8 the 8-bit one"),
    ...SOURCE,
    R2: reserved(127, 84),
  },
);

export const POSTED_IRTE = layout(
  {
    name: "Posted Interrupt Remapping Table Entry",
    bits: 128,
    spec: "VT-d 9.10",
    summary: "Posted interrupts (IM = 1).",
  },
  {
    P: bit(0, "present"),
    FPD: bit(1, "fault processing disable"),
    R0: reserved(7, 2),
    AVAIL: uint(11, 8, "for software"),
    R1: reserved(13, 12),
    URG: bit(14, "urgent"),
    IM: oneOf(15, 15, { remapped: 0, posted: 1 }, "interrupt mode"),
    V: uint(23, 16, "vector"),
    R2: reserved(37, 24),
    PDAL: uint(63, 38, "posted interrupt descriptor address, bits 31:6"),
    ...SOURCE,
    R3: reserved(95, 84),
    PDAH: uint(127, 96, "posted interrupt descriptor address, bits 63:32"),
  },
);

/** Address of a remappable interrupt request. */
export const INTERRUPT_ADDRESS = layout(
  { name: "Interrupt Request Address", bits: 32, spec: "VT-d 5.1.2.2" },
  {
    IGN: uint(1, 0, "ignored"),
    HANDLE15: bit(2, "handle, bit 15"),
    SHV: bit(3, "the data holds a subhandle"),
    FORMAT: oneOf(4, 4, { compatibility: 0, remappable: 1 }, "interrupt format"),
    HANDLE: uint(19, 5, "handle, bits 14:0"),
    FEE: uint(31, 20, "0xfee"),
  },
);

/** Data of a remappable interrupt request. */
export const INTERRUPT_DATA = layout(
  { name: "Interrupt Request Data", bits: 32, spec: "VT-d 5.1.2.2" },
  {
    SUBHANDLE: uint(15, 0, "subhandle", { condition: "SHV" }),
    R: reserved(31, 16),
  },
);
