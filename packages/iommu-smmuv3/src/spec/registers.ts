/**
 * Registers of the Non-secure programming interface, IHI 0070 chapter 6: page 0 from 0x0, page 1 from 0x10000.
 * Left out: Secure and Realm pages, ECMDQ control pages, ATOS/VATOS, MPAM, performance monitors. Which fields software
 * may change while CR0 enables something stands in hardware/register-guards.ts.
 */
import { addr, bit, oneOf, register, reserved, uint } from "@iommukit/core";

const ro = { access: "ro" } as const;

/** Bytes of register space: two 64 KiB pages. */
export const REGISTER_SPACE = 0x2_0000;

export const IDR0 = register(
  { name: "IDR0", offset: 0x0, bits: 32, spec: "IHI0070 6.3.1" },
  {
    S2P: bit(0, "stage 2 is supported", ro),
    S1P: bit(1, "stage 1 is supported", ro),
    TTF: oneOf(3, 2, { none: 0, aarch32: 1, aarch64: 2, both: 3 }, "translation table formats", ro),
    COHACC: bit(4, "accesses to tables and queues are coherent", ro),
    BTM: bit(5, "broadcast TLB maintenance is received", ro),
    HTTU: oneOf(
      7,
      6,
      { none: 0, access: 1, accessAndDirty: 2, reserved: 3 },
      "hardware updates of access flag and dirty state",
      ro,
    ),
    DORMHINT: bit(8, "dormant hint", ro),
    HYP: bit(9, "EL2 StreamWorlds and their invalidation commands", ro),
    ATS: bit(10, "PCIe ATS is supported", ro),
    NS1ATS: bit(11, "split-stage ATS (STE.EATS = 0b10) is not supported", ro),
    ASID16: bit(12, "ASIDs have 16 bits, otherwise 8", ro),
    MSI: bit(13, "message-signalled interrupts are supported", ro),
    SEV: bit(14, "CMD_SYNC can send an event", ro),
    ATOS: bit(15, "address translation operation registers", ro),
    PRI: bit(16, "PCIe page requests are supported", ro),
    VMW: bit(17, "VMID wildcards (CR0.VMW)", ro),
    VMID16: bit(18, "VMIDs have 16 bits, otherwise 8", ro),
    CD2L: bit(19, "2-level CD tables", ro),
    VATOS: bit(20, "virtual ATOS page", ro),
    TTENDIAN: oneOf(22, 21, { mixed: 0, reserved: 1, little: 2, big: 3 }, "byte order of translation tables", ro),
    ATSRECERR: bit(23, "CR2.REC_CFG_ATS is supported", ro),
    STALL_MODEL: oneOf(
      25,
      24,
      { both: 0, terminate: 1, force: 2, reserved: 3 },
      "stall and terminate, terminate only, or stall forced",
      ro,
    ),
    TERM_MODEL: bit(26, "CD.A must be 1: terminated transactions always abort", ro),
    ST_LEVEL: oneOf(28, 27, { linear: 0, twoLevel: 1 }, "stream table formats", ro),
    _29: reserved(29),
    RME_IMPL: bit(30, "Realm Management Extension", ro),
    _31: reserved(31),
  },
);

export const IDR1 = register(
  { name: "IDR1", offset: 0x4, bits: 32, spec: "IHI0070 6.3.2" },
  {
    SIDSIZE: uint(5, 0, "bits of StreamID", ro),
    SSIDSIZE: uint(10, 6, "bits of SubstreamID; 0 for none", ro),
    PRIQS: uint(15, 11, "largest page request queue, log2 of entries", ro),
    EVENTQS: uint(20, 16, "largest event queue, log2 of entries", ro),
    CMDQS: uint(25, 21, "largest command queue, log2 of entries", ro),
    ATTR_PERMS_OVR: bit(26, "incoming permission attributes can be overridden", ro),
    ATTR_TYPES_OVR: bit(27, "incoming memory attributes can be overridden", ro),
    REL: bit(28, "preset base registers are offsets, not addresses", ro),
    QUEUES_PRESET: bit(29, "queue base registers are fixed", ro),
    TABLES_PRESET: bit(30, "stream table base registers are fixed", ro),
    ECMDQ: bit(31, "enhanced command queues", ro),
  },
);

export const IDR2 = register(
  { name: "IDR2", offset: 0x8, bits: 32, spec: "IHI0070 6.3.3" },
  {
    BA_VATOS: uint(9, 0, "VATOS page", ro),
    _31_10: reserved(31, 10),
  },
);

export const IDR3 = register(
  { name: "IDR3", offset: 0xc, bits: 32, spec: "IHI0070 6.3.4" },
  {
    _1_0: reserved(1, 0),
    HAD: bit(2, "hierarchical attributes can be disabled", ro),
    PBHA: bit(3, "page-based hardware attributes", ro),
    XNX: bit(4, "separate EL0 and EL1 execute-never at stage 2", ro),
    PPS: bit(5, "PRI responses carry a PASID iff the request did", ro),
    _6: reserved(6),
    MPAM: bit(7, "memory partitioning and monitoring", ro),
    FWB: bit(8, "stage 2 forced write-back", ro),
    STT: bit(9, "small translation tables", ro),
    RIL: bit(10, "range-based and level-hinted invalidation", ro),
    BBML: oneOf(12, 11, { level0: 0, level1: 1, level2: 2 }, "break-before-make behaviour", ro),
    E0PD: bit(13, "E0PD0 and E0PD1 of the CD", ro),
    PTWNNC: bit(14, "stage 2 translation of stage 1 walks as Normal Non-cacheable", ro),
    DPT: bit(15, "device permission tables", ro),
    _31_16: reserved(31, 16),
  },
);

export const IDR4 = register(
  { name: "IDR4", offset: 0x10, bits: 32, spec: "IHI0070 6.3.5" },
  {
    IMPDEF: uint(31, 0, "implementation defined", ro),
  },
);

export const IDR5 = register(
  { name: "IDR5", offset: 0x14, bits: 32, spec: "IHI0070 6.3.6" },
  {
    OAS: oneOf(
      2,
      0,
      { bits32: 0, bits36: 1, bits40: 2, bits42: 3, bits44: 4, bits48: 5, bits52: 6, bits56: 7 },
      "output address size",
      ro,
    ),
    _3: reserved(3),
    GRAN4K: bit(4, "4 KiB granule", ro),
    GRAN16K: bit(5, "16 KiB granule", ro),
    GRAN64K: bit(6, "64 KiB granule", ro),
    DS: bit(7, "52-bit addresses with 4 KiB and 16 KiB granules", ro),
    D128: bit(8, "128-bit descriptors", ro),
    _9: reserved(9),
    VAX: oneOf(11, 10, { bits48: 0, bits52: 1 }, "virtual address size", ro),
    _15_12: reserved(15, 12),
    STALL_MAX: uint(31, 16, "stalled transactions that can be outstanding", ro),
  },
);

export const IIDR = register(
  { name: "IIDR", offset: 0x18, bits: 32, spec: "IHI0070 6.3.7" },
  {
    Implementer: uint(11, 0, "JEP106 code of the implementer", ro),
    Revision: uint(15, 12, "minor revision", ro),
    Variant: uint(19, 16, "major revision", ro),
    ProductID: uint(31, 20, "product", ro),
  },
);

export const AIDR = register(
  { name: "AIDR", offset: 0x1c, bits: 32, spec: "IHI0070 6.3.8" },
  {
    ArchMinorRev: uint(3, 0, "SMMUv3.x", ro),
    ArchMajorRev: uint(7, 4, "0 for SMMUv3", ro),
    _31_8: reserved(31, 8),
  },
);

export const CR0 = register(
  { name: "CR0", offset: 0x20, bits: 32, spec: "IHI0070 6.3.9" },
  {
    SMMUEN: bit(0, "translate instead of following GBPA"),
    PRIQEN: bit(1, "page request queue writes are enabled"),
    EVENTQEN: bit(2, "event queue writes are enabled"),
    CMDQEN: bit(3, "command processing is enabled"),
    ATSCHK: bit(4, "ATS Translated transactions are checked against the STE"),
    _5: reserved(5),
    VMW: oneOf(
      8,
      6,
      { exact: 0, ignore1: 1, ignore2: 2, ignore3: 3, ignore4: 4 },
      "low VMID bits that invalidation by VMID ignores",
    ),
    _9: reserved(9),
    DPT_WALK_EN: bit(10, "device permission table walks"),
    _31_11: reserved(31, 11),
  },
);

export const CR0ACK = register(
  {
    name: "CR0ACK",
    offset: 0x24,
    bits: 32,
    spec: "IHI0070 6.3.10",
    summary: "Reads as CR0 once an update has completed.",
  },
  {
    SMMUEN: bit(0, "translation is enabled", ro),
    PRIQEN: bit(1, "page request queue is enabled", ro),
    EVENTQEN: bit(2, "event queue is enabled", ro),
    CMDQEN: bit(3, "command queue is enabled", ro),
    ATSCHK: bit(4, "ATS Translated transactions are checked", ro),
    _5: reserved(5),
    VMW: uint(8, 6, "VMID wildcard", ro),
    _9: reserved(9),
    DPT_WALK_EN: bit(10, "device permission table walks", ro),
    _31_11: reserved(31, 11),
  },
);

const CACHEABILITY = { nonCacheable: 0, writeBack: 1, writeThrough: 2 } as const;
const SHAREABILITY = { none: 0, outer: 2, inner: 3 } as const;

export const CR1 = register(
  { name: "CR1", offset: 0x28, bits: 32, spec: "IHI0070 6.3.11" },
  {
    QUEUE_IC: oneOf(1, 0, CACHEABILITY, "queues: inner cacheability"),
    QUEUE_OC: oneOf(3, 2, CACHEABILITY, "queues: outer cacheability"),
    QUEUE_SH: oneOf(5, 4, SHAREABILITY, "queues: shareability"),
    TABLE_IC: oneOf(7, 6, CACHEABILITY, "stream table and CDs: inner cacheability"),
    TABLE_OC: oneOf(9, 8, CACHEABILITY, "stream table and CDs: outer cacheability"),
    TABLE_SH: oneOf(11, 10, SHAREABILITY, "stream table and CDs: shareability"),
    _31_12: reserved(31, 12),
  },
);

export const CR2 = register(
  { name: "CR2", offset: 0x2c, bits: 32, spec: "IHI0070 6.3.12" },
  {
    E2H: bit(0, "EL2 translation uses ASIDs (EL2-E2H)"),
    RECINVSID: bit(1, "C_BAD_STREAMID is recorded"),
    PTM: bit(2, "broadcast TLB maintenance is ignored"),
    REC_CFG_ATS: bit(3, "configuration errors of ATS requests are recorded", { condition: "IDR0.ATSRECERR = 1" }),
    _31_4: reserved(31, 4),
  },
);

export const STATUSR = register(
  { name: "STATUSR", offset: 0x40, bits: 32, spec: "IHI0070 6.3.13" },
  {
    DORMANT: bit(0, "no transactions or caches are live", ro),
    _31_1: reserved(31, 1),
  },
);

export const GBPA = register(
  {
    name: "GBPA",
    offset: 0x44,
    bits: 32,
    spec: "IHI0070 6.3.14",
    summary: "What happens to every transaction while SMMUEN = 0.",
  },
  {
    MemAttr: uint(3, 0, "memory type when MTCFG = 1"),
    MTCFG: bit(4, "override the memory type"),
    _7_5: reserved(7, 5),
    ALLOCCFG: uint(11, 8, "allocation hints"),
    SHCFG: oneOf(13, 12, { nonShareable: 0, incoming: 1, outer: 2, inner: 3 }, "shareability"),
    _15_14: reserved(15, 14),
    PRIVCFG: oneOf(17, 16, { incoming: 0, reserved: 1, unprivileged: 2, privileged: 3 }, "privilege override"),
    INSTCFG: oneOf(19, 18, { incoming: 0, reserved: 1, data: 2, instruction: 3 }, "instruction/data override"),
    ABORT: bit(20, "abort every transaction"),
    _30_21: reserved(30, 21),
    UPDATE: bit(31, "write one to update; reads as zero when done"),
  },
);

export const AGBPA = register(
  { name: "AGBPA", offset: 0x48, bits: 32, spec: "IHI0070 6.3.15" },
  {
    IMPDEF: uint(31, 0, "implementation defined attributes; none here", ro),
  },
);

export const IRQ_CTRL = register(
  { name: "IRQ_CTRL", offset: 0x50, bits: 32, spec: "IHI0070 6.3.16" },
  {
    GERROR_IRQEN: bit(0, "interrupt on global errors"),
    PRIQ_IRQEN: bit(1, "interrupt on page requests"),
    EVENTQ_IRQEN: bit(2, "interrupt on events"),
    _31_3: reserved(31, 3),
  },
);

export const IRQ_CTRLACK = register(
  { name: "IRQ_CTRLACK", offset: 0x54, bits: 32, spec: "IHI0070 6.3.18" },
  {
    GERROR_IRQEN: bit(0, "interrupt on global errors", ro),
    PRIQ_IRQEN: bit(1, "interrupt on page requests", ro),
    EVENTQ_IRQEN: bit(2, "interrupt on events", ro),
    _31_3: reserved(31, 3),
  },
);

export const GERROR = register(
  {
    name: "GERROR",
    offset: 0x60,
    bits: 32,
    spec: "IHI0070 6.3.19",
    summary: "An error is active where GERROR differs from GERRORN.",
  },
  {
    CMDQ_ERR: bit(0, "a command could not be consumed; CMDQ_CONS.ERR says why", ro),
    _1: reserved(1),
    EVENTQ_ABT_ERR: bit(2, "a write to the event queue aborted", ro),
    PRIQ_ABT_ERR: bit(3, "a write to the page request queue aborted", ro),
    MSI_CMDQ_ABT_ERR: bit(4, "a CMD_SYNC message aborted", ro),
    MSI_EVENTQ_ABT_ERR: bit(5, "an event queue message aborted", ro),
    MSI_PRIQ_ABT_ERR: bit(6, "a page request queue message aborted", ro),
    MSI_GERROR_ABT_ERR: bit(7, "a GERROR message aborted", ro),
    SFM_ERR: bit(8, "the SMMU entered Service Failure Mode", ro),
    CMDQP_ERR: bit(9, "an enhanced command queue has an error", ro),
    DPT_ERR: bit(10, "a device permission table lookup failed", ro),
    _31_11: reserved(31, 11),
  },
);

export const GERRORN = register(
  { name: "GERRORN", offset: 0x64, bits: 32, spec: "IHI0070 6.3.20" },
  {
    CMDQ_ERR: bit(0, "acknowledges GERROR.CMDQ_ERR by being equal"),
    _1: reserved(1),
    EVENTQ_ABT_ERR: bit(2, "acknowledges GERROR.EVENTQ_ABT_ERR"),
    PRIQ_ABT_ERR: bit(3, "acknowledges GERROR.PRIQ_ABT_ERR"),
    MSI_CMDQ_ABT_ERR: bit(4, "acknowledges GERROR.MSI_CMDQ_ABT_ERR"),
    MSI_EVENTQ_ABT_ERR: bit(5, "acknowledges GERROR.MSI_EVENTQ_ABT_ERR"),
    MSI_PRIQ_ABT_ERR: bit(6, "acknowledges GERROR.MSI_PRIQ_ABT_ERR"),
    MSI_GERROR_ABT_ERR: bit(7, "acknowledges GERROR.MSI_GERROR_ABT_ERR"),
    SFM_ERR: bit(8, "acknowledges GERROR.SFM_ERR"),
    _31_9: reserved(31, 9),
  },
);

function irqConfig0(name: string, offset: number, spec: string) {
  return register(
    { name, offset, bits: 64, spec },
    {
      _1_0: reserved(1, 0),
      ADDR: addr(51, 2, "address of the message; 0 sends none"),
      _63_52: reserved(63, 52),
    },
  );
}

function irqConfig1(name: string, offset: number, spec: string) {
  return register({ name, offset, bits: 32, spec }, { DATA: uint(31, 0, "payload of the message") });
}

function irqConfig2(name: string, offset: number, spec: string) {
  return register(
    { name, offset, bits: 32, spec },
    {
      MEMATTR: uint(3, 0, "memory type of the message"),
      SH: oneOf(5, 4, SHAREABILITY, "shareability of the message"),
      _31_6: reserved(31, 6),
    },
  );
}

export const GERROR_IRQ_CFG0 = irqConfig0("GERROR_IRQ_CFG0", 0x68, "IHI0070 6.3.21");
export const GERROR_IRQ_CFG1 = irqConfig1("GERROR_IRQ_CFG1", 0x70, "IHI0070 6.3.22");
export const GERROR_IRQ_CFG2 = irqConfig2("GERROR_IRQ_CFG2", 0x74, "IHI0070 6.3.23");

export const STRTAB_BASE = register(
  { name: "STRTAB_BASE", offset: 0x80, bits: 64, spec: "IHI0070 6.3.24" },
  {
    _5_0: reserved(5, 0),
    ADDR: addr(51, 6, "stream table, aligned to its size"),
    _61_52: reserved(61, 52),
    RA: bit(62, "read-allocate hint"),
    _63: reserved(63),
  },
);

export const STRTAB_BASE_CFG = register(
  { name: "STRTAB_BASE_CFG", offset: 0x88, bits: 32, spec: "IHI0070 6.3.25" },
  {
    LOG2SIZE: uint(5, 0, "log2 of the number of StreamIDs"),
    SPLIT: oneOf(10, 6, { span4K: 6, span16K: 8, span64K: 10 }, "StreamID bits that the second level resolves"),
    _15_11: reserved(15, 11),
    FMT: oneOf(17, 16, { linear: 0, twoLevel: 1 }, "format of the stream table"),
    _31_18: reserved(31, 18),
  },
);

export const CMDQ_BASE = register(
  { name: "CMDQ_BASE", offset: 0x90, bits: 64, spec: "IHI0070 6.3.26" },
  {
    LOG2SIZE: uint(4, 0, "log2 of the number of commands"),
    ADDR: addr(51, 5, "command queue, aligned to its size"),
    _61_52: reserved(61, 52),
    RA: bit(62, "read-allocate hint"),
    _63: reserved(63),
  },
);

export const CMDQ_PROD = register(
  { name: "CMDQ_PROD", offset: 0x98, bits: 32, spec: "IHI0070 6.3.27" },
  {
    WR: uint(19, 0, "next index to be written, with the wrap bit above it"),
    _31_20: reserved(31, 20),
  },
);

export const CMDQ_CONS = register(
  { name: "CMDQ_CONS", offset: 0x9c, bits: 32, spec: "IHI0070 6.3.28" },
  {
    RD: uint(19, 0, "next index to be consumed, with the wrap bit above it"),
    _23_20: reserved(23, 20),
    ERR: oneOf(
      30,
      24,
      { CERROR_NONE: 0, CERROR_ILL: 1, CERROR_ABT: 2, CERROR_ATC_INV_SYNC: 3 },
      "why the queue stopped, while GERROR.CMDQ_ERR is active",
      ro,
    ),
    _31: reserved(31),
  },
);

export const EVENTQ_BASE = register(
  { name: "EVENTQ_BASE", offset: 0xa0, bits: 64, spec: "IHI0070 6.3.29" },
  {
    LOG2SIZE: uint(4, 0, "log2 of the number of events"),
    ADDR: addr(51, 5, "event queue, aligned to its size"),
    _61_52: reserved(61, 52),
    WA: bit(62, "write-allocate hint"),
    _63: reserved(63),
  },
);

export const EVENTQ_PROD = register(
  { name: "EVENTQ_PROD", offset: 0x100a8, bits: 32, spec: "IHI0070 6.3.95" },
  {
    WR: uint(19, 0, "next index to be written, with the wrap bit above it"),
    _30_20: reserved(30, 20),
    OVFLG: bit(31, "an overflow is unacknowledged while it differs from OVACKFLG"),
  },
);

export const EVENTQ_CONS = register(
  { name: "EVENTQ_CONS", offset: 0x100ac, bits: 32, spec: "IHI0070 6.3.96" },
  {
    RD: uint(19, 0, "next index to be read, with the wrap bit above it"),
    _30_20: reserved(30, 20),
    OVACKFLG: bit(31, "acknowledges OVFLG by being equal"),
  },
);

export const EVENTQ_IRQ_CFG0 = irqConfig0("EVENTQ_IRQ_CFG0", 0xb0, "IHI0070 6.3.30");
export const EVENTQ_IRQ_CFG1 = irqConfig1("EVENTQ_IRQ_CFG1", 0xb8, "IHI0070 6.3.31");
export const EVENTQ_IRQ_CFG2 = irqConfig2("EVENTQ_IRQ_CFG2", 0xbc, "IHI0070 6.3.32");

export const PRIQ_BASE = register(
  { name: "PRIQ_BASE", offset: 0xc0, bits: 64, spec: "IHI0070 6.3.33" },
  {
    LOG2SIZE: uint(4, 0, "log2 of the number of page requests"),
    ADDR: addr(51, 5, "page request queue, aligned to its size"),
    _61_52: reserved(61, 52),
    WA: bit(62, "write-allocate hint"),
    _63: reserved(63),
  },
);

export const PRIQ_PROD = register(
  { name: "PRIQ_PROD", offset: 0x100c8, bits: 32, spec: "IHI0070 6.3.97" },
  {
    WR: uint(19, 0, "next index to be written, with the wrap bit above it"),
    _30_20: reserved(30, 20),
    OVFLG: bit(31, "an overflow is unacknowledged while it differs from OVACKFLG"),
  },
);

export const PRIQ_CONS = register(
  { name: "PRIQ_CONS", offset: 0x100cc, bits: 32, spec: "IHI0070 6.3.98" },
  {
    RD: uint(19, 0, "next index to be read, with the wrap bit above it"),
    _30_20: reserved(30, 20),
    OVACKFLG: bit(31, "acknowledges OVFLG by being equal"),
  },
);

export const PRIQ_IRQ_CFG0 = irqConfig0("PRIQ_IRQ_CFG0", 0xd0, "IHI0070 6.3.34");
export const PRIQ_IRQ_CFG1 = irqConfig1("PRIQ_IRQ_CFG1", 0xd8, "IHI0070 6.3.35");

export const PRIQ_IRQ_CFG2 = register(
  { name: "PRIQ_IRQ_CFG2", offset: 0xdc, bits: 32, spec: "IHI0070 6.3.36" },
  {
    MEMATTR: uint(3, 0, "memory type of the message"),
    SH: oneOf(5, 4, SHAREABILITY, "shareability of the message"),
    _30_6: reserved(30, 6),
    LO: bit(31, "interrupt only when a request with Last = 1 is written"),
  },
);

/** Everything that a Non-secure driver sees, in address order. */
export const REGISTERS = [
  IDR0,
  IDR1,
  IDR2,
  IDR3,
  IDR4,
  IDR5,
  IIDR,
  AIDR,
  CR0,
  CR0ACK,
  CR1,
  CR2,
  STATUSR,
  GBPA,
  AGBPA,
  IRQ_CTRL,
  IRQ_CTRLACK,
  GERROR,
  GERRORN,
  GERROR_IRQ_CFG0,
  GERROR_IRQ_CFG1,
  GERROR_IRQ_CFG2,
  STRTAB_BASE,
  STRTAB_BASE_CFG,
  CMDQ_BASE,
  CMDQ_PROD,
  CMDQ_CONS,
  EVENTQ_BASE,
  EVENTQ_IRQ_CFG0,
  EVENTQ_IRQ_CFG1,
  EVENTQ_IRQ_CFG2,
  PRIQ_BASE,
  PRIQ_IRQ_CFG0,
  PRIQ_IRQ_CFG1,
  PRIQ_IRQ_CFG2,
  EVENTQ_PROD,
  EVENTQ_CONS,
  PRIQ_PROD,
  PRIQ_CONS,
] as const;
