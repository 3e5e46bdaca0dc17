/**
 * VMSAv8-64 stage 1 translation table descriptors, 4 KiB granule, 48-bit addresses: levels 0 to 3 (Arm DDI0487 D8.3).
 * Linux's software bits are named because its tables are what one finds in a dump. Not here: 52-bit addresses, stage 2.
 */
import { addr, bit, oneOf, reserved, uint } from "../../bits/field.js";
import { layout } from "../../bits/layout.js";

const SPEC = "DDI0487 D8.3.1";

/** Bits 11:2, 50 and up: the attributes of block and page descriptors are the same (D8.3.1.2). */
const LOWER = {
  AttrIndx: uint(4, 2, "index into MAIR_ELx"),
  NS: bit(5, "output address is non-secure; ignored in non-secure state"),
  AP1: bit(6, "accessible unprivileged"),
  AP2: bit(7, "read-only"),
  SH: oneOf(9, 8, { nonShareable: 0, outerShareable: 2, innerShareable: 3 }, "shareability"),
  AF: bit(10, "access flag; a descriptor with 0 faults or is updated by hardware, and is not cached"),
  nG: bit(11, "not global: belongs to the current ASID"),
};

const UPPER = {
  GP: bit(50, "guarded page", { condition: "FEAT_BTI" }),
  DBM: bit(51, "dirty bit modifier: with AP2 = 1, hardware may make the entry writable. Linux: PTE_WRITE", {
    condition: "FEAT_HAFDBS",
  }),
  Contiguous: bit(52, "one of 16 adjacent entries that may share one TLB entry"),
  PXN: bit(53, "privileged execute never"),
  UXN: bit(54, "unprivileged execute never"),
  SW_DIRTY: bit(55, "software: Linux PTE_DIRTY"),
  SW_SPECIAL: bit(56, "software: Linux PTE_SPECIAL, no struct page behind it"),
  SW: uint(58, 57, "software"),
  PBHA: uint(62, 59, "page-based hardware attributes", { condition: "FEAT_HPDS2" }),
  IGNORED_63: bit(63, "ignored"),
};

/** Levels 0 to 2: points to the next level's table. */
export const VMSAV8_TABLE = layout(
  { name: "VMSAv8-64 table descriptor", bits: 64, spec: SPEC, summary: "Levels 0 to 2: the next level's table" },
  {
    Valid: bit(0, "descriptor is valid"),
    Type: oneOf(1, 1, { block: 0, table: 1 }, "block or table"),
    IGNORED: uint(9, 2, "ignored"),
    AF: bit(10, "access flag of the table", { condition: "FEAT_HAFT" }),
    IGNORED_11: bit(11, "ignored"),
    NextLevelTable: addr(47, 12, "address of the next table"),
    RES0: reserved(50, 48),
    IGNORED_51: uint(58, 51, "ignored"),
    PXNTable: bit(59, "privileged execute never, for everything below"),
    UXNTable: bit(60, "unprivileged execute never, for everything below"),
    APTable: oneOf(
      62,
      61,
      { none: 0, noUnprivileged: 1, readOnly: 2, both: 3 },
      "access that everything below is denied",
    ),
    NSTable: bit(63, "everything below is non-secure; ignored in non-secure state"),
  },
);

/** Level 3: maps 4 KiB. */
export const VMSAV8_PAGE = layout(
  { name: "VMSAv8-64 page descriptor", bits: 64, spec: SPEC, summary: "Level 3: 4 KiB" },
  {
    Valid: bit(0, "descriptor is valid"),
    Type: oneOf(1, 1, { reserved: 0, page: 1 }, "must be page at level 3"),
    ...LOWER,
    OA: addr(47, 12, "output address"),
    RES0: reserved(49, 48),
    ...UPPER,
  },
);

/** Level 2: maps 2 MiB. */
export const VMSAV8_BLOCK_2M = layout(
  { name: "VMSAv8-64 level 2 block descriptor", bits: 64, spec: SPEC, summary: "Level 2: 2 MiB" },
  {
    Valid: bit(0, "descriptor is valid"),
    Type: oneOf(1, 1, { block: 0, table: 1 }, "block or table"),
    ...LOWER,
    RES0_12: reserved(15, 12),
    nT: bit(16, "not cached while its size changes", { condition: "FEAT_BBM" }),
    RES0_17: reserved(20, 17),
    OA: addr(47, 21, "output address"),
    RES0: reserved(49, 48),
    ...UPPER,
  },
);

/** Level 1: maps 1 GiB. */
export const VMSAV8_BLOCK_1G = layout(
  { name: "VMSAv8-64 level 1 block descriptor", bits: 64, spec: SPEC, summary: "Level 1: 1 GiB" },
  {
    Valid: bit(0, "descriptor is valid"),
    Type: oneOf(1, 1, { block: 0, table: 1 }, "block or table"),
    ...LOWER,
    RES0_12: reserved(15, 12),
    nT: bit(16, "not cached while its size changes", { condition: "FEAT_BBM" }),
    RES0_17: reserved(29, 17),
    OA: addr(47, 30, "output address"),
    RES0: reserved(49, 48),
    ...UPPER,
  },
);

/** Linux's MAIR_EL1: 0 normal write-back, 1 the same (tagged), 2 normal non-cacheable, 3 device-nGnRnE, 4 device-nGnRE. */
export const LINUX_MAIR_EL1 = 0x0000_0004_0044_ffffn;

/** Index in Linux's MAIR of normal write-back memory. */
export const MAIR_NORMAL = 0;

/** Index in Linux's MAIR of device memory. */
export const MAIR_DEVICE = 3;
