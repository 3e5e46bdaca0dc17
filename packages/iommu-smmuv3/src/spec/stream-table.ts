/**
 * Stream table, IHI 0070 5.1 and 5.2: level 1 descriptor and Stream Table Entry. Left out, so RES0 here: Secure state
 * (dwords 4 and 5 and S2NSW/S2NSA), MPAM, 128-bit descriptors, stage-1 permission indirection.
 */
import { addr, bit, layout, oneOf, reserved, uint } from "@iommukit/core";

export const L1STD = layout(
  { name: "L1STD", bits: 64, spec: "IHI0070 5.1", summary: "Level 1 Stream Table Descriptor." },
  {
    Span: uint(4, 0, "0: no table; n: the table has 2^(n-1) STEs"),
    _5: reserved(5),
    L2Ptr: addr(51, 6, "level 2 table, aligned to its size"),
    _63_52: reserved(63, 52),
  },
);

/** STE.Config, by bits: 2 translates or bypasses at all, 1 stage 2, 0 stage 1. */
export const STE_CONFIG = { abort: 0b000, bypass: 0b100, s1: 0b101, s2: 0b110, nested: 0b111 } as const;

/** STE.S1Fmt (5.2). */
export const STE_S1FMT = { linear: 0b00, twoLevel4K: 0b01, twoLevel64K: 0b10 } as const;

/** STE.S1DSS: transactions without a substream (5.2). */
export const STE_S1DSS = { terminate: 0b00, bypass: 0b01, ssid0: 0b10 } as const;

/** STE.EATS: what ATS may do (5.2). */
export const STE_EATS = { abort: 0b00, full: 0b01, s1check: 0b10, dptcheck: 0b11 } as const;

/** STE.STRW: the StreamWorld (5.2). */
export const STE_STRW = { nsEl1: 0b00, nsEl2: 0b10 } as const;

export const STE = layout(
  { name: "STE", bits: 512, spec: "IHI0070 5.2", summary: "Stream Table Entry." },
  {
    V: bit(0, "the entry is valid"),
    Config: oneOf(3, 1, STE_CONFIG, "what happens to the stream"),
    S1Fmt: oneOf(5, 4, STE_S1FMT, "format of the CD table", { condition: "S1CDMax > 0" }),
    S1ContextPtr: addr(51, 6, "CD or level 1 CD table; an IPA when stage 2 is enabled"),
    _58_52: reserved(58, 52),
    S1CDMax: uint(63, 59, "log2 of the number of CDs; 0: one CD, no substreams"),

    S1DSS: oneOf(65, 64, STE_S1DSS, "transactions without a substream, when there are substreams"),
    S1CIR: uint(67, 66, "CD fetches: inner cacheability"),
    S1COR: uint(69, 68, "CD fetches: outer cacheability"),
    S1CSH: uint(71, 70, "CD fetches: shareability"),
    S2HWU59: bit(72, "stage 2 descriptor bit 59 is a hardware attribute", { condition: "IDR3.PBHA = 1" }),
    S2HWU60: bit(73, "stage 2 descriptor bit 60 is a hardware attribute", { condition: "IDR3.PBHA = 1" }),
    S2HWU61: bit(74, "stage 2 descriptor bit 61 is a hardware attribute", { condition: "IDR3.PBHA = 1" }),
    S2HWU62: bit(75, "stage 2 descriptor bit 62 is a hardware attribute", { condition: "IDR3.PBHA = 1" }),
    DRE: bit(76, "destructive reads are allowed"),
    CONT: uint(80, 77, "2^CONT neighbouring STEs are alike: caching hint"),
    DCP: bit(81, "directed cache prefetches are allowed"),
    PPAR: bit(82, "automatic page responses carry the PASID", { condition: "IDR0.PRI = 1" }),
    MEV: bit(83, "similar events may be merged"),
    SW_RESERVED: uint(87, 84, "for software"),
    _88: reserved(88),
    S2FWB: bit(89, "stage 2 forced write-back", { condition: "IDR3.FWB = 1" }),
    _90: reserved(90),
    S1STALLD: bit(91, "stage 1 stalls are disabled", { condition: "IDR0.STALL_MODEL = 0" }),
    EATS: oneOf(93, 92, STE_EATS, "ATS: refused, full, or checked at stage 2", { condition: "IDR0.ATS = 1" }),
    STRW: oneOf(95, 94, STE_STRW, "StreamWorld (exception level) of stage 1"),
    MemAttr: uint(99, 96, "memory type when MTCFG = 1"),
    MTCFG: bit(100, "override the memory type"),
    ALLOCCFG: uint(104, 101, "allocation hints"),
    _107_105: reserved(107, 105),
    SHCFG: oneOf(109, 108, { nonShareable: 0, incoming: 1, outer: 2, inner: 3 }, "shareability"),
    NSCFG: uint(111, 110, "Non-secure attribute; Secure streams only"),
    PRIVCFG: oneOf(113, 112, { incoming: 0, reserved: 1, unprivileged: 2, privileged: 3 }, "privilege override"),
    INSTCFG: oneOf(115, 114, { incoming: 0, reserved: 1, data: 2, instruction: 3 }, "instruction/data override"),
    IMPDEF1: uint(127, 116, "implementation defined"),

    S2VMID: uint(143, 128, "virtual machine identifier"),
    IMPDEF2: uint(159, 144, "implementation defined"),
    S2T0SZ: uint(165, 160, "stage 2 input is 64 - S2T0SZ bits"),
    S2SL0: uint(167, 166, "start level of the stage 2 walk, encoded as VTCR_EL2.SL0"),
    S2IR0: uint(169, 168, "stage 2 walks: inner cacheability"),
    S2OR0: uint(171, 170, "stage 2 walks: outer cacheability"),
    S2SH0: uint(173, 172, "stage 2 walks: shareability"),
    S2TG: oneOf(175, 174, { granule4K: 0, granule64K: 1, granule16K: 2 }, "stage 2 granule"),
    S2PS: uint(178, 176, "stage 2 output size, encoded as IDR5.OAS"),
    S2AA64: bit(179, "stage 2 tables are AArch64"),
    S2ENDI: bit(180, "stage 2 tables are big-endian"),
    S2AFFD: bit(181, "stage 2 access flag faults are disabled"),
    S2PTW: bit(182, "stage 1 walks into Device memory fault"),
    S2HD: bit(183, "hardware updates stage 2 dirty state", { condition: "IDR0.HTTU = 2" }),
    S2HA: bit(184, "hardware updates the stage 2 access flag", { condition: "IDR0.HTTU >= 1" }),
    S2S: bit(185, "stage 2 faults stall", { condition: "IDR0.STALL_MODEL != 1" }),
    S2R: bit(186, "stage 2 faults are recorded"),
    _191_187: reserved(191, 187),

    _195_192: reserved(195, 192),
    S2TTB: addr(243, 196, "stage 2 start table"),
    _255_244: reserved(255, 244),

    _511_256: reserved(511, 256),
  },
);
