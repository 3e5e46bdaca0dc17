/**
 * Registers of a remapping unit (VT-d rev 5.1, chapter 11). Fault recording and IOTLB registers stand where CAP.FRO and
 * ECAP.IRO say: see `frcdRegisters` and `iotlbRegisters`. Names are those of the current revision ("first stage"); what earlier
 * revisions and Linux call it stands in the meaning. Left out: MTRRs, performance monitoring, enhanced and virtual commands.
 */
import { addr, bit, type FieldSpec, type FieldSpecs, oneOf, register, relocated, reserved, uint } from "@iommukit/core";
import { FRCD, FRCD_FIELDS } from "./faults.js";

const SPEC = "VT-d 11.4";
const ro = { access: "ro" } as const;

export const VER = register(
  { name: "VER", offset: 0x00, bits: 32, spec: SPEC },
  {
    MIN: uint(3, 0, "minor version", ro),
    MAX: uint(7, 4, "major version", ro),
    R: reserved(31, 8),
  },
);

export const CAP = register(
  { name: "CAP", offset: 0x08, bits: 64, spec: "VT-d 11.4.2" },
  {
    ND: uint(2, 0, "2^(4 + 2n) domain-ids", ro),
    AFL: bit(3, "advanced fault logging", ro),
    RWBF: bit(4, "software has to flush write buffers", ro),
    PLMR: bit(5, "protected low-memory region", ro),
    PHMR: bit(6, "protected high-memory region", ro),
    CM: bit(7, "caching mode: not-present entries may be cached", ro),
    SAGAW: uint(12, 8, "second-stage widths: bit 1 39 bits, bit 2 48 bits, bit 3 57 bits", ro),
    R0: reserved(15, 13),
    MGAW: uint(21, 16, "maximum guest address width minus 1", ro),
    ZLR: bit(22, "zero-length reads of write-only pages are allowed", ro),
    R1: reserved(23),
    FRO: uint(33, 24, "offset of the fault recording registers, in 16 bytes", ro),
    SSLPS: uint(37, 34, "second-stage large pages: bit 0 2 MiB, bit 1 1 GiB (SLLPS)", ro),
    R2: reserved(38),
    PSI: bit(39, "page-selective invalidation", ro),
    NFR: uint(47, 40, "number of fault recording registers minus 1", ro),
    MAMV: uint(53, 48, "maximum address mask of page-selective invalidations", ro),
    DWD: bit(54, "write draining", ro),
    DRD: bit(55, "read draining", ro),
    FS1GP: bit(56, "first-stage 1 GiB pages (FL1GP)", ro),
    R3: reserved(58, 57),
    PI: bit(59, "posted interrupts", ro),
    FS5LP: bit(60, "first-stage 5-level paging (FL5LP)", ro),
    ECMDS: bit(61, "enhanced commands", ro),
    ESIRTPS: bit(62, "setting the interrupt remapping table pointer invalidates the entry cache", ro),
    ESRTPS: bit(63, "setting the root table pointer invalidates all translation caches", ro),
  },
);

export const ECAP = register(
  { name: "ECAP", offset: 0x10, bits: 64, spec: "VT-d 11.4.3" },
  {
    C: bit(0, "walks of root, context, second-stage and interrupt tables are snooped", ro),
    QI: bit(1, "queued invalidation", ro),
    DT: bit(2, "device-TLBs", ro),
    IR: bit(3, "interrupt remapping", ro),
    EIM: bit(4, "extended interrupt mode: 32-bit APIC ids", ro),
    R0: reserved(5),
    PT: bit(6, "pass-through", ro),
    SC: bit(7, "snoop control", ro),
    IRO: uint(17, 8, "offset of the IOTLB registers, in 16 bytes", ro),
    R1: reserved(19, 18),
    MHMV: uint(23, 20, "maximum handle mask of interrupt entry cache invalidations", ro),
    R2: reserved(24),
    MTS: bit(25, "memory types", ro),
    NEST: bit(26, "nested translation", ro),
    DIS: bit(27, "deferred invalidation", ro),
    R3: reserved(28),
    PRS: bit(29, "page requests", ro),
    ERS: bit(30, "execute requests", ro),
    SRS: bit(31, "supervisor requests", ro),
    R4: reserved(32),
    NWFS: bit(33, "no-write flag of translation requests", ro),
    EAFS: bit(34, "extended accessed flag", ro),
    PSS: uint(39, 35, "PASID bits minus 1", ro),
    PASID: bit(40, "requests with PASID", ro),
    DIT: bit(41, "device-TLB invalidation throttling", ro),
    PDS: bit(42, "page-request drain", ro),
    SMTS: bit(43, "scalable mode", ro),
    VCS: bit(44, "virtual commands", ro),
    SSADS: bit(45, "second-stage accessed and dirty bits (SLADS)", ro),
    SSTS: bit(46, "second-stage translation in scalable mode (SLTS)", ro),
    FSTS: bit(47, "first-stage translation (FLTS)", ro),
    SMPWCS: bit(48, "scalable-mode walks can be snooped", ro),
    RPS: bit(49, "RID_PASID", ro),
    TDXCS: bit(50, "TDX Connect", ro),
    PMS: bit(51, "performance monitoring", ro),
    ADMS: bit(52, "abort-DMA mode", ro),
    RPRIVS: bit(53, "RID_PRIV", ro),
    R6: reserved(54),
    HPTS: bit(55, "host permission tables", ro),
    PTRS: bit(56, "PASIDs in translated requests", ro),
    SSIRWS: bit(57, "separate permission bits for devices in second-stage entries", ro),
    SMS: bit(58, "stop markers", ro),
    HPT1GPS: bit(59, "1 GiB pages in host permission tables", ro),
    RDTS: bit(60, "resource director tags", ro),
    EIMER: bit(61, "extended interrupt mode is the only one", ro),
    IRREQ: bit(62, "interrupts are blocked unless remapped", ro),
    R7: reserved(63),
  },
);

const wo = { access: "wo" } as const;

export const GCMD = register(
  {
    name: "GCMD",
    offset: 0x18,
    bits: 32,
    spec: "VT-d 11.4.4.1",
    summary: "One bit is changed per write; the others are written as GSTS shows them.",
  },
  {
    R: reserved(22, 0),
    CFI: bit(23, "let compatibility-format interrupts through", wo),
    SIRTP: bit(24, "set the interrupt remapping table pointer", wo),
    IRE: bit(25, "interrupt remapping enable", wo),
    QIE: bit(26, "queued invalidation enable", wo),
    WBF: bit(27, "write buffer flush", wo),
    EAFL: bit(28, "advanced fault logging enable", wo),
    SFL: bit(29, "set fault log pointer", wo),
    SRTP: bit(30, "set root table pointer", wo),
    TE: bit(31, "translation enable", wo),
  },
);

export const GSTS = register(
  { name: "GSTS", offset: 0x1c, bits: 32, spec: "VT-d 11.4.4.2" },
  {
    R: reserved(22, 0),
    CFIS: bit(23, "compatibility-format interrupts pass", ro),
    IRTPS: bit(24, "interrupt remapping table pointer set", ro),
    IRES: bit(25, "interrupt remapping enabled", ro),
    QIES: bit(26, "queued invalidation enabled", ro),
    WBFS: bit(27, "write buffer flush in progress", ro),
    AFLS: bit(28, "advanced fault logging enabled", ro),
    FLS: bit(29, "fault log pointer set", ro),
    RTPS: bit(30, "root table pointer set", ro),
    TES: bit(31, "translation enabled", ro),
  },
);

export const RTADDR = register(
  { name: "RTADDR", offset: 0x20, bits: 64, spec: "VT-d 11.4.5" },
  {
    R: reserved(6, 0),
    SSIRWE: bit(7, "second-stage entries are read with their permission bits for devices", {
      ...ro,
      condition: "ECAP.SSIRWS",
    }),
    R1: reserved(9, 8),
    TTM: oneOf(11, 10, { legacy: 0, scalable: 1, abort: 3 }, "translation table mode"),
    RTA: addr(63, 12, "root table"),
  },
);

export const CCMD = register(
  { name: "CCMD", offset: 0x28, bits: 64, spec: "VT-d 11.4.6.1" },
  {
    DID: uint(15, 0, "domain-id"),
    SID: uint(31, 16, "source-id"),
    FM: uint(33, 32, "function mask: how many low bits of the function number are ignored"),
    R: reserved(58, 34),
    CAIG: oneOf(60, 59, { global: 1, domain: 2, device: 3 }, "what the hardware invalidated", ro),
    CIRG: oneOf(62, 61, { global: 1, domain: 2, device: 3 }, "what to invalidate"),
    ICC: bit(63, "invalidate the context cache; clears when done", { access: "w1s" }),
  },
);

export const FSTS = register(
  { name: "FSTS", offset: 0x34, bits: 32, spec: "VT-d 11.4.7.1" },
  {
    PFO: bit(0, "a fault could not be recorded", { access: "w1c" }),
    PPF: bit(1, "a fault recording register has F set", ro),
    AFO: bit(2, "advanced fault log overflow", ro),
    APF: bit(3, "advanced pending fault", ro),
    IQE: bit(4, "invalidation queue error; IQER.IQEI says which", { access: "w1c" }),
    ICE: bit(5, "invalidation completion error: unexpected completion from a device", { access: "w1c" }),
    ITE: bit(6, "invalidation time-out: a device did not complete", { access: "w1c" }),
    R0: reserved(7, 7, { section: "page request overflow until rev 2.5; PRS.PRO since" }),
    FRI: uint(15, 8, "index of the first pending fault recording register", ro),
    R1: reserved(31, 16),
  },
);

/** Control, data and address of one event interrupt: fault, invalidation completion, page request. */
function eventRegisters<const P extends string>(prefix: P, offset: number, section: string, what: string) {
  const spec = `VT-d ${section}`;
  return {
    CTL: register(
      { name: `${prefix}CTL`, offset, bits: 32, spec },
      {
        R: reserved(29, 0),
        IP: bit(30, `${what} interrupt is pending`, ro),
        IM: bit(31, `${what} interrupt is masked`, { reset: 1 }),
      },
    ),
    DATA: register(
      { name: `${prefix}DATA`, offset: offset + 4, bits: 32, spec },
      {
        IMD: uint(15, 0, "message data"),
        EIMD: uint(31, 16, "message data, upper half, where the unit sends 32 bits", { access: "ro" }),
      },
    ),
    ADDR: register(
      { name: `${prefix}ADDR`, offset: offset + 8, bits: 32, spec },
      {
        R: reserved(1, 0),
        MA: addr(31, 2, "message address"),
      },
    ),
    UADDR: register(
      { name: `${prefix}UADDR`, offset: offset + 12, bits: 32, spec },
      { MUA: uint(31, 0, "message address, upper half") },
    ),
  };
}

/** What FE, IE and PE are. */
export type EventRegisters = ReturnType<typeof eventRegisters>;

/** FECTL, FEDATA, FEADDR, FEUADDR. */
export const FE = eventRegisters("FE", 0x38, "11.4.7.2", "fault event");

export const AFLOG = register(
  { name: "AFLOG", offset: 0x58, bits: 64, spec: "VT-d rev 3, 10.4.14" },
  {
    R: reserved(8, 0),
    FLS: uint(11, 9, "fault log size", ro),
    FLA: addr(63, 12, "fault log", ro),
  },
);

export const PMEN = register(
  { name: "PMEN", offset: 0x64, bits: 32, spec: "VT-d 11.4.8.1" },
  {
    PRS: bit(0, "protected memory is protected now", ro),
    R: reserved(30, 1),
    EPM: bit(31, "enable protected memory", { condition: "CAP.PLMR or CAP.PHMR" }),
  },
);

export const PLMBASE = register(
  { name: "PLMBASE", offset: 0x68, bits: 32, spec: "VT-d 11.4.8.2" },
  {
    R: reserved(20, 0),
    PLMB: addr(31, 21, "base of protected low memory"),
  },
);

export const PLMLIMIT = register(
  { name: "PLMLIMIT", offset: 0x6c, bits: 32, spec: "VT-d 11.4.8.3" },
  {
    R: reserved(20, 0),
    PLML: addr(31, 21, "limit of protected low memory: its last 2 MiB"),
  },
);

export const PHMBASE = register(
  { name: "PHMBASE", offset: 0x70, bits: 64, spec: "VT-d 11.4.8.4" },
  {
    R: reserved(20, 0),
    PHMB: addr(63, 21, "base of protected high memory"),
  },
);

export const PHMLIMIT = register(
  { name: "PHMLIMIT", offset: 0x78, bits: 64, spec: "VT-d 11.4.8.5" },
  {
    R: reserved(20, 0),
    PHML: addr(63, 21, "limit of protected high memory: its last 2 MiB"),
  },
);

export const IQH = register(
  { name: "IQH", offset: 0x80, bits: 64, spec: "VT-d 11.4.9.1" },
  {
    R0: reserved(3, 0),
    QH: addr(18, 4, "byte offset of the descriptor that is fetched next", ro),
    R1: reserved(63, 19),
  },
);

export const IQT = register(
  { name: "IQT", offset: 0x88, bits: 64, spec: "VT-d 11.4.9.2" },
  {
    R0: reserved(3, 0),
    QT: addr(18, 4, "byte offset of the descriptor that software writes next"),
    R1: reserved(63, 19),
  },
);

export const IQA = register(
  { name: "IQA", offset: 0x90, bits: 64, spec: "VT-d 11.4.9.3" },
  {
    QS: uint(2, 0, "2^n pages"),
    R: reserved(10, 3),
    DW: oneOf(11, 11, { 128: 0, 256: 1 }, "descriptor width"),
    IQA: addr(63, 12, "invalidation queue"),
  },
);

export const ICS = register(
  { name: "ICS", offset: 0x9c, bits: 32, spec: "VT-d 11.4.9.4" },
  {
    IWC: bit(0, "a wait descriptor with IF has completed", { access: "w1c" }),
    R: reserved(31, 1),
  },
);

/** IECTL, IEDATA, IEADDR, IEUADDR. */
export const IE = eventRegisters("IE", 0xa0, "11.4.9.5", "invalidation completion");

export const IQER = register(
  { name: "IQER", offset: 0xb0, bits: 64, spec: "VT-d 11.4.9.9" },
  {
    IQEI: oneOf(
      3,
      0,
      {
        none: 0,
        tailOutOfRange: 1,
        fetchFailed: 2,
        invalidType: 3,
        reserved: 4,
        invalidWidth: 5,
        tailAlignment: 6,
        invalidTtm: 7,
      },
      "why FSTS.IQE was set",
      ro,
    ),
    R: reserved(31, 4),
    ITESID: uint(47, 32, "source-id of the request that timed out", ro),
    ICESID: uint(63, 48, "source-id of the unexpected completion", ro),
  },
);

export const IRTA = register(
  { name: "IRTA", offset: 0xb8, bits: 64, spec: "VT-d 11.4.10" },
  {
    S: uint(3, 0, "2^(n + 1) entries"),
    R: reserved(10, 4),
    EIME: bit(11, "extended interrupt mode enable"),
    IRTA: addr(63, 12, "interrupt remapping table"),
  },
);

export const PQH = register(
  { name: "PQH", offset: 0xc0, bits: 64, spec: "VT-d 11.4.11.1" },
  {
    R0: reserved(4, 0),
    PQH: addr(18, 5, "byte offset of the request that software reads next"),
    R1: reserved(63, 19),
  },
);

export const PQT = register(
  { name: "PQT", offset: 0xc8, bits: 64, spec: "VT-d 11.4.11.2" },
  {
    R0: reserved(4, 0),
    PQT: addr(18, 5, "byte offset of the request that hardware writes next"),
    R1: reserved(63, 19),
  },
);

export const PQA = register(
  { name: "PQA", offset: 0xd0, bits: 64, spec: "VT-d 11.4.11.3" },
  {
    PQS: uint(2, 0, "2^n pages"),
    R: reserved(11, 3),
    PQA: addr(63, 12, "page request queue"),
  },
);

export const PRS = register(
  { name: "PRS", offset: 0xdc, bits: 32, spec: "VT-d 11.4.11.4" },
  {
    PPR: bit(0, "a page request is pending", { access: "w1c" }),
    PRO: bit(1, "page request overflow: requests were lost", { access: "w1c" }),
    R: reserved(31, 2),
  },
);

/** PECTL, PEDATA, PEADDR, PEUADDR. */
export const PE = eventRegisters("PE", 0xe0, "11.4.11.5", "page request event");

const IVA_AT_ZERO = register(
  { name: "IVA", offset: 0, bits: 64, spec: "VT-d 11.4.6.2" },
  {
    AM: uint(5, 0, "address mask: 2^n pages", wo),
    IH: bit(6, "only leaf entries changed", wo),
    R: reserved(11, 7),
    ADDR: addr(63, 12, "address", wo),
  },
);

const IOTLB_AT_ZERO = register(
  { name: "IOTLB", offset: 0, bits: 64, spec: "VT-d 11.4.6.2" },
  {
    R0: reserved(31, 0),
    DID: uint(47, 32, "domain-id"),
    DW: bit(48, "drain writes"),
    DR: bit(49, "drain reads"),
    R1: reserved(56, 50),
    IAIG: oneOf(58, 57, { global: 1, domain: 2, page: 3 }, "what the hardware invalidated", ro),
    R2: reserved(59),
    IIRG: oneOf(61, 60, { global: 1, domain: 2, page: 3 }, "what to invalidate"),
    R3: reserved(62),
    IVT: bit(63, "invalidate the IOTLB; clears when done", { access: "w1s" }),
  },
);

/** IVA and IOTLB_REG of a unit whose ECAP says `IRO`. */
export function iotlbRegisters(iro: number) {
  return { IVA: relocated(IVA_AT_ZERO, iro * 16), IOTLB: relocated(IOTLB_AT_ZERO, iro * 16 + 8) };
}

/** Of one unit, at the place that its ECAP gives. */
export type IotlbRegisters = ReturnType<typeof iotlbRegisters>;

/** One 64-bit half of the 128-bit fault record as a register's fields. */
function half(fields: FieldSpecs, index: 0 | 1): FieldSpecs {
  const inside = Object.entries(fields).filter(([, { lsb }]) => lsb >> 6 === index);
  return Object.fromEntries(
    inside.map(([name, spec]): [string, FieldSpec] => [name, { ...spec, msb: spec.msb & 63, lsb: spec.lsb & 63 }]),
  );
}

/** The `count` fault recording registers of a unit whose CAP says `fro`, two 64-bit halves each, low half first. */
export function frcdRegisters(fro: number, count: number) {
  return Array.from({ length: count }, (_, n) => {
    const offset = fro * 16 + n * FRCD.bytes;
    return {
      LO: register({ name: `FRCD${n}_LO`, offset, bits: 64, spec: FRCD.spec }, half(FRCD_FIELDS, 0)),
      HI: register({ name: `FRCD${n}_HI`, offset: offset + 8, bits: 64, spec: FRCD.spec }, half(FRCD_FIELDS, 1)),
    };
  });
}

/** One fault recording register. */
export type FrcdRegisters = ReturnType<typeof frcdRegisters>[number];

/** Registers whose place is the same on every unit. */
export const FIXED_REGISTERS = [
  VER,
  CAP,
  ECAP,
  GCMD,
  GSTS,
  RTADDR,
  CCMD,
  FSTS,
  ...Object.values(FE),
  AFLOG,
  PMEN,
  PLMBASE,
  PLMLIMIT,
  PHMBASE,
  PHMLIMIT,
  IQH,
  IQT,
  IQA,
  ICS,
  ...Object.values(IE),
  IQER,
  IRTA,
  PQH,
  PQT,
  PQA,
  PRS,
  ...Object.values(PE),
] as const;

/** All registers of a unit, with those whose place CAP and ECAP tell, and the bytes that they take. */
export function unitRegisters(fro: number, records: number, iro: number) {
  const frcd = frcdRegisters(fro, records);
  const iotlbs = iotlbRegisters(iro);
  const all = [...FIXED_REGISTERS, iotlbs.IVA, iotlbs.IOTLB, ...frcd.flatMap(({ LO, HI }) => [LO, HI])];
  const end = Math.max(...all.map(({ offset, bytes }) => offset + bytes));
  return { frcd, iotlbs, all, size: Math.ceil(end / 4096) * 4096 };
}

/** All registers of a unit with its capabilities. */
export type UnitRegisters = ReturnType<typeof unitRegisters>;
