/**
 * VMSAv8-64 translation table descriptors, Arm ARM (DDI 0487) D8.3, as the SMMU walks them. Table descriptors are the
 * same in both stages except for the hierarchical attributes, which stage 2 does not have.
 */
import { addr, bit, layout, oneOf, reserved, uint } from "@iommukit/core";

/** Bits 1:0 of a descriptor (D8.3). */
export const DESCRIPTOR_TYPE = { invalid: 0, block: 1, reserved: 2, tableOrPage: 3 } as const;

const type = oneOf(1, 0, DESCRIPTOR_TYPE, "invalid, block, or table (page at level 3)");

export const TABLE_DESCRIPTOR = layout(
  { name: "Table descriptor", bits: 64, spec: "DDI0487 D8.3.1" },
  {
    Type: type,
    IGNORED: uint(11, 2, "ignored"),
    NextLevelTable: addr(
      47,
      12,
      "next table; bits 15:12 are address bits 51:48 with the 64 KiB granule and 52-bit addresses",
    ),
    _50_48: reserved(50, 48),
    IGNORED1: uint(58, 51, "ignored"),
    PXNTable: bit(59, "everything below is privileged execute-never; stage 1"),
    UXNTable: bit(60, "everything below is unprivileged execute-never; XNTable in regimes with one level; stage 1"),
    APTable: oneOf(
      62,
      61,
      { none: 0, noEl0: 1, readOnly: 2, noEl0ReadOnly: 3 },
      "access that is taken away from everything below; stage 1",
    ),
    NSTable: bit(63, "everything below is Non-secure; Secure regimes only"),
  },
);

export const S1_DESCRIPTOR = layout(
  { name: "Stage 1 block or page descriptor", bits: 64, spec: "DDI0487 D8.3.1" },
  {
    Type: type,
    AttrIndx: uint(4, 2, "memory attributes: byte of MAIR"),
    NS: bit(5, "Non-secure; Secure regimes only"),
    AP: oneOf(
      7,
      6,
      { el1ReadWrite: 0, readWrite: 1, el1ReadOnly: 2, readOnly: 3 },
      "AP[2:1]: read-only, and accessible to EL0",
    ),
    SH: oneOf(9, 8, { none: 0, reserved: 1, outer: 2, inner: 3 }, "shareability"),
    AF: bit(10, "access flag"),
    nG: bit(11, "not global: the translation belongs to an ASID"),
    OutputAddress: addr(
      47,
      12,
      "output address; bits 15:12 are address bits 51:48 with the 64 KiB granule and 52-bit addresses",
    ),
    _49_48: reserved(49, 48),
    GP: bit(50, "guarded page"),
    DBM: bit(51, "dirty bit modifier: AP[2] says clean, not read-only"),
    Contiguous: bit(52, "one of a set of contiguous entries"),
    PXN: bit(53, "privileged execute-never"),
    UXN: bit(54, "unprivileged execute-never; XN in regimes with one level"),
    IGNORED: uint(58, 55, "for software"),
    PBHA: uint(62, 59, "page-based hardware attributes"),
    IGNORED1: bit(63, "ignored"),
  },
);

export const S2_DESCRIPTOR = layout(
  { name: "Stage 2 block or page descriptor", bits: 64, spec: "DDI0487 D8.3.1" },
  {
    Type: type,
    MemAttr: uint(5, 2, "memory attributes"),
    S2AP: oneOf(7, 6, { none: 0, readOnly: 1, writeOnly: 2, readWrite: 3 }, "data access"),
    SH: oneOf(9, 8, { none: 0, reserved: 1, outer: 2, inner: 3 }, "shareability"),
    AF: bit(10, "access flag"),
    FnXS: bit(11, "XS attribute"),
    OutputAddress: addr(
      47,
      12,
      "output address; bits 15:12 are address bits 51:48 with the 64 KiB granule and 52-bit addresses",
    ),
    _50_48: reserved(50, 48),
    DBM: bit(51, "dirty bit modifier: S2AP[1] says clean, not read-only"),
    Contiguous: bit(52, "one of a set of contiguous entries"),
    XN: oneOf(54, 53, { executable: 0, el0Only: 1, never: 2, el1Only: 3 }, "execute-never; bit 53 needs IDR3.XNX"),
    NS: bit(55, "Secure stage 2 only"),
    IGNORED: uint(58, 56, "for software"),
    PBHA: uint(62, 59, "page-based hardware attributes"),
    IGNORED1: bit(63, "ignored"),
  },
);
