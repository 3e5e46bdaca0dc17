/**
 * Context descriptors, IHI 0070 5.3 and 5.4: one per SubstreamID, in a linear or 2-level table. Left out, so RES0
 * here: MPAM, 128-bit descriptors, permission indirection.
 */
import { addr, bit, layout, oneOf, reserved, uint } from "@iommukit/core";

export const L1CD = layout(
  { name: "L1CD", bits: 64, spec: "IHI0070 5.3", summary: "Level 1 Context Descriptor." },
  {
    V: bit(0, "L2Ptr is valid"),
    _11_1: reserved(11, 1),
    L2Ptr: addr(51, 12, "level 2 table of CDs: 4 KiB (64 CDs) or 64 KiB (1024 CDs)"),
    _63_52: reserved(63, 52),
  },
);

/** CDs in a leaf table, as log2, by STE.S1Fmt. */
export const CD_SPLIT = { twoLevel4K: 6, twoLevel64K: 10 } as const;

/** CD.TG0 (5.4). */
export const CD_TG0 = { granule4K: 0, granule64K: 1, granule16K: 2 } as const;

/** CD.TG1 (5.4): other values than TG0's. */
export const CD_TG1 = { granule16K: 1, granule4K: 2, granule64K: 3 } as const;

export const CD = layout(
  { name: "CD", bits: 512, spec: "IHI0070 5.4", summary: "Context Descriptor." },
  {
    T0SZ: uint(5, 0, "TTB0 covers 64 - T0SZ bits"),
    TG0: oneOf(7, 6, CD_TG0, "TTB0 granule"),
    IR0: uint(9, 8, "TTB0 walks: inner cacheability"),
    OR0: uint(11, 10, "TTB0 walks: outer cacheability"),
    SH0: uint(13, 12, "TTB0 walks: shareability"),
    EPD0: bit(14, "TTB0 walks are disabled: every access to its range is F_TRANSLATION"),
    ENDI: bit(15, "tables are big-endian"),
    T1SZ: uint(21, 16, "TTB1 covers 64 - T1SZ bits"),
    TG1: oneOf(23, 22, CD_TG1, "TTB1 granule"),
    IR1: uint(25, 24, "TTB1 walks: inner cacheability"),
    OR1: uint(27, 26, "TTB1 walks: outer cacheability"),
    SH1: uint(29, 28, "TTB1 walks: shareability"),
    EPD1: bit(30, "TTB1 walks are disabled"),
    V: bit(31, "the entry is valid"),
    IPS: uint(34, 32, "output size of stage 1, encoded as IDR5.OAS"),
    AFFD: bit(35, "access flag faults are disabled"),
    WXN: bit(36, "writable is execute-never"),
    UWXN: bit(37, "writable by EL0 is execute-never for EL1"),
    TBI: uint(39, 38, "top byte is ignored: bit 0 for TTB0, bit 1 for TTB1"),
    PAN: bit(40, "privileged data accesses to pages that EL0 may access fault"),
    AA64: bit(41, "tables are AArch64"),
    HD: bit(42, "hardware updates dirty state", { condition: "IDR0.HTTU = 2" }),
    HA: bit(43, "hardware updates the access flag", { condition: "IDR0.HTTU >= 1" }),
    S: bit(44, "faults stall the transaction"),
    R: bit(45, "faults are recorded"),
    A: bit(46, "terminated transactions abort; otherwise reads are zero and writes ignored"),
    ASET: bit(47, "the ASID is not in the set that broadcast invalidation shares"),
    ASID: uint(63, 48, "address space identifier"),

    NSCFG0: bit(64, "Non-secure attribute of the TTB0 walk; Secure streams only"),
    HAD0: bit(65, "hierarchical attributes of TTB0 tables are ignored", { condition: "IDR3.HAD = 1" }),
    E0PD0: bit(66, "unprivileged accesses to TTB0 fault", { condition: "IDR3.E0PD = 1" }),
    _67: reserved(67),
    TTB0: addr(115, 68, "start table of the low range"),
    _123_116: reserved(123, 116),
    HWU059: bit(124, "TTB0 descriptor bit 59 is a hardware attribute", { condition: "IDR3.PBHA = 1" }),
    HWU060: bit(125, "TTB0 descriptor bit 60 is a hardware attribute", { condition: "IDR3.PBHA = 1" }),
    HWU061: bit(126, "TTB0 descriptor bit 61 is a hardware attribute", { condition: "IDR3.PBHA = 1" }),
    HWU062: bit(127, "TTB0 descriptor bit 62 is a hardware attribute", { condition: "IDR3.PBHA = 1" }),

    NSCFG1: bit(128, "Non-secure attribute of the TTB1 walk; Secure streams only"),
    HAD1: bit(129, "hierarchical attributes of TTB1 tables are ignored", { condition: "IDR3.HAD = 1" }),
    E0PD1: bit(130, "unprivileged accesses to TTB1 fault", { condition: "IDR3.E0PD = 1" }),
    _131: reserved(131),
    TTB1: addr(179, 132, "start table of the high range"),
    _187_180: reserved(187, 180),
    HWU159: bit(188, "TTB1 descriptor bit 59 is a hardware attribute", { condition: "IDR3.PBHA = 1" }),
    HWU160: bit(189, "TTB1 descriptor bit 60 is a hardware attribute", { condition: "IDR3.PBHA = 1" }),
    HWU161: bit(190, "TTB1 descriptor bit 61 is a hardware attribute", { condition: "IDR3.PBHA = 1" }),
    HWU162: bit(191, "TTB1 descriptor bit 62 is a hardware attribute", { condition: "IDR3.PBHA = 1" }),

    MAIR0: uint(223, 192, "memory attributes 0 to 3, one byte each"),
    MAIR1: uint(255, 224, "memory attributes 4 to 7"),
    AMAIR0: uint(287, 256, "auxiliary attributes, implementation defined"),
    AMAIR1: uint(319, 288, "auxiliary attributes, implementation defined"),
    IMPDEF: uint(351, 320, "implementation defined"),
    _383_352: reserved(383, 352),
    _511_384: reserved(511, 384),
  },
);
