/** PASID directory and PASID table (VT-d 9.5, 9.6): which tables and which domain-id a PASID of a function uses. */
import { addr, bit, layout, oneOf, reserved, uint } from "@iommukit/core";

/** PASIDs per directory entry: one page of PASID table entries. */
export const PASID_TABLE_ENTRIES = 64;
export const PASID_TABLE_SHIFT = 6;

export const PASID_DIRECTORY_ENTRY = layout(
  { name: "Scalable-Mode PASID Directory Entry", bits: 64, spec: "VT-d 9.5", summary: "By PASID[19:6]." },
  {
    P: bit(0, "present"),
    FPD: bit(1, "fault processing disable"),
    R: reserved(11, 2),
    SMPTBLPTR: addr(63, 12, "PASID table"),
  },
);

/** PASID Granular Translation Type. */
export const Pgtt = { FIRST_STAGE: 1, SECOND_STAGE: 2, NESTED: 3, PASS_THROUGH: 4 } as const;

export const PASID_ENTRY = layout(
  { name: "Scalable-Mode PASID Table Entry", bits: 512, spec: "VT-d 9.6", summary: "By PASID[5:0]." },
  {
    P: bit(0, "present"),
    FPD: bit(1, "fault processing disable"),
    AW: oneOf(4, 2, { "39": 1, "48": 2, "57": 3 }, "address width of the second stage"),
    SSEE: bit(5, "second-stage execute permission is honoured (SLEE)", { condition: "ECAP.ERS" }),
    PGTT: oneOf(8, 6, { firstStage: 1, secondStage: 2, nested: 3, passThrough: 4 }, "translation type"),
    SSADE: bit(9, "second-stage accessed and dirty bits are updated (SLADE)", { condition: "ECAP.SSADS" }),
    R0: reserved(11, 10),
    SSPTPTR: addr(63, 12, "second-stage page table (SLPTPTR)"),
    DID: uint(79, 64, "domain-id"),
    R1: reserved(86, 80),
    PWSNP: bit(87, "walks are snooped", { condition: "ECAP.SMPWCS" }),
    PGSNP: bit(88, "accesses are snooped whatever the request says", { condition: "ECAP.SC" }),
    CD: bit(89, "cache disable", { condition: "ECAP.MTS" }),
    EMTE: bit(90, "extended memory type enable", { condition: "ECAP.MTS" }),
    EMT: uint(93, 91, "extended memory type", { condition: "ECAP.MTS" }),
    R2: reserved(95, 94),
    PAT: uint(127, 96, "page attribute table", { condition: "ECAP.MTS" }),
    SRE: bit(128, "supervisor requests are allowed", { condition: "ECAP.SRS" }),
    ERE: bit(129, "execute requests are allowed", { condition: "ECAP.ERS" }),
    FSPM: oneOf(131, 130, { fourLevel: 0, fiveLevel: 1 }, "first-stage paging mode (FLPM)"),
    WPE: bit(132, "supervisor writes honour read-only entries (CR0.WP)"),
    NXE: bit(133, "no-execute bits are honoured", { condition: "ECAP.ERS" }),
    SMEP: bit(134, "supervisor execution of user pages is refused", { condition: "ECAP.ERS" }),
    EAFE: bit(135, "the extended accessed bit is updated", { condition: "ECAP.EAFS" }),
    R3: reserved(139, 136),
    FSPTPTR: addr(191, 140, "first-stage page table (FLPTPTR)"),
    R4: reserved(511, 192),
  },
);
