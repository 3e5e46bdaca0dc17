/**
 * Commands, IHI 0070 chapter 4: 16 bytes each, the opcode in the lowest byte. Secure, Realm and ECMDQ commands are
 * left out: on a Non-secure queue they are CERROR_ILL like any unknown opcode.
 */
import { type AnyLayout, addr, bit, layout, oneOf, reserved, uint } from "@iommukit/core";

/** Numbers of the commands by name. */
export const OPCODE = {
  PREFETCH_CONFIG: 0x01,
  PREFETCH_ADDR: 0x02,
  CFGI_STE: 0x03,
  CFGI_STE_RANGE: 0x04,
  CFGI_CD: 0x05,
  CFGI_CD_ALL: 0x06,
  CFGI_VMS_PIDM: 0x07,
  TLBI_NH_ALL: 0x10,
  TLBI_NH_ASID: 0x11,
  TLBI_NH_VA: 0x12,
  TLBI_NH_VAA: 0x13,
  TLBI_EL3_ALL: 0x18,
  TLBI_EL3_VA: 0x1a,
  TLBI_EL2_ALL: 0x20,
  TLBI_EL2_ASID: 0x21,
  TLBI_EL2_VA: 0x22,
  TLBI_EL2_VAA: 0x23,
  TLBI_S12_VMALL: 0x28,
  TLBI_S2_IPA: 0x2a,
  TLBI_NSNH_ALL: 0x30,
  ATC_INV: 0x40,
  PRI_RESP: 0x41,
  RESUME: 0x44,
  STALL_TERM: 0x45,
  SYNC: 0x46,
} as const;

/** CFGI_STE_RANGE.Range that invalidates every STE and CD: CMD_CFGI_ALL. */
export const CFGI_ALL_RANGE = 31;
/** ATC_INV.Size that covers the whole address space. */
export const ATC_INV_ALL = 52;

/** What every command starts with. */
export const COMMAND = layout(
  { name: "CMD", bits: 128, spec: "IHI0070 4.1.2" },
  {
    Opcode: oneOf(7, 0, OPCODE, "which command"),
    _9_8: reserved(9, 8),
    SSec: bit(10, "the StreamID is Secure; illegal on the Non-secure queue"),
    Operands: uint(63, 11, "as the opcode says"),
    Operands1: uint(127, 64, "as the opcode says"),
  },
);

const opcode = oneOf(7, 0, OPCODE, "which command");
const streamId = uint(63, 32, "StreamID");
const sSec = bit(10, "the StreamID is Secure; illegal on the Non-secure queue");
const ssv = bit(11, "SubstreamID is valid");
const substreamId = uint(31, 12, "SubstreamID");

export const CMD_PREFETCH_CONFIG = layout(
  { name: "CMD_PREFETCH_CONFIG", bits: 128, spec: "IHI0070 4.2.1" },
  {
    Opcode: opcode,
    _9_8: reserved(9, 8),
    SSec: sSec,
    SSV: ssv,
    SubstreamID: substreamId,
    StreamID: streamId,
    _127_64: reserved(127, 64),
  },
);

export const CMD_PREFETCH_ADDR = layout(
  { name: "CMD_PREFETCH_ADDR", bits: 128, spec: "IHI0070 4.2.2" },
  {
    Opcode: opcode,
    _9_8: reserved(9, 8),
    SSec: sSec,
    SSV: ssv,
    SubstreamID: substreamId,
    StreamID: streamId,
    Size: uint(68, 64, "log2 of the pages from Addr"),
    Stride: uint(73, 69, "pages between prefetches"),
    _74: reserved(74),
    NS: bit(75, "Non-secure; Secure streams only"),
    Addr: addr(127, 76, "first address"),
  },
);

export const CMD_CFGI_STE = layout(
  { name: "CMD_CFGI_STE", bits: 128, spec: "IHI0070 4.3.1" },
  {
    Opcode: opcode,
    _9_8: reserved(9, 8),
    SSec: sSec,
    _31_11: reserved(31, 11),
    StreamID: streamId,
    Leaf: bit(64, "only the STE, not the level 1 descriptor"),
    _127_65: reserved(127, 65),
  },
);

export const CMD_CFGI_STE_RANGE = layout(
  { name: "CMD_CFGI_STE_RANGE", bits: 128, spec: "IHI0070 4.3.2", summary: "Range = 31 is CMD_CFGI_ALL." },
  {
    Opcode: opcode,
    _9_8: reserved(9, 8),
    SSec: sSec,
    _31_11: reserved(31, 11),
    StreamID: streamId,
    Range: uint(68, 64, "log2 of the STEs minus one, aligned; 31: everything"),
    _127_69: reserved(127, 69),
  },
);

export const CMD_CFGI_CD = layout(
  { name: "CMD_CFGI_CD", bits: 128, spec: "IHI0070 4.3.3" },
  {
    Opcode: opcode,
    _9_8: reserved(9, 8),
    SSec: sSec,
    _11: reserved(11),
    SubstreamID: substreamId,
    StreamID: streamId,
    Leaf: bit(64, "only the CD, not the level 1 descriptor"),
    _127_65: reserved(127, 65),
  },
);

export const CMD_CFGI_CD_ALL = layout(
  { name: "CMD_CFGI_CD_ALL", bits: 128, spec: "IHI0070 4.3.4" },
  {
    Opcode: opcode,
    _9_8: reserved(9, 8),
    SSec: sSec,
    _31_11: reserved(31, 11),
    StreamID: streamId,
    _127_64: reserved(127, 64),
  },
);

export const CMD_CFGI_VMS_PIDM = layout(
  { name: "CMD_CFGI_VMS_PIDM", bits: 128, spec: "IHI0070 4.3.5", summary: "Needs MPAM: CERROR_ILL here." },
  {
    Opcode: opcode,
    _9_8: reserved(9, 8),
    SSec: sSec,
    _31_11: reserved(31, 11),
    VMID: uint(47, 32, "VMID"),
    _127_48: reserved(127, 48),
  },
);

function tlbi(name: string, spec: string, by: { vmid?: boolean; asid?: boolean }) {
  return layout(
    { name, bits: 128, spec },
    {
      Opcode: opcode,
      _31_8: reserved(31, 8),
      VMID: uint(47, 32, "VMID; ignored by commands that do not name one", { access: by.vmid ? "rw" : "res0" }),
      ASID: uint(63, 48, "ASID; ignored by commands that do not name one", { access: by.asid ? "rw" : "res0" }),
      _127_64: reserved(127, 64),
    },
  );
}

function tlbiAddress(name: string, spec: string, by: { vmid?: boolean; asid?: boolean; meaning?: string }) {
  return layout(
    { name, bits: 128, spec },
    {
      Opcode: opcode,
      _11_8: reserved(11, 8),
      NUM: uint(16, 12, "(NUM + 1) * 2^SCALE granules", { condition: "TG != 0" }),
      _19_17: reserved(19, 17),
      SCALE: uint(24, 20, "see NUM", { condition: "TG != 0" }),
      _31_25: reserved(31, 25),
      VMID: uint(47, 32, "VMID; ignored by commands that do not name one", { access: by.vmid ? "rw" : "res0" }),
      ASID: uint(63, 48, "ASID; ignored by commands that do not name one", { access: by.asid ? "rw" : "res0" }),
      Leaf: bit(64, "only final-level entries"),
      _71_65: reserved(71, 65),
      TTL: oneOf(73, 72, { any: 0, level1: 1, level2: 2, level3: 3 }, "level of the leaf entry", {
        condition: "TG != 0",
      }),
      TG: oneOf(
        75,
        74,
        { single: 0, granule4K: 1, granule16K: 2, granule64K: 3 },
        "granule of the range; 0: one address, no hint",
        { condition: "IDR3.RIL = 1" },
      ),
      Address: addr(127, 76, by.meaning ?? "virtual address"),
    },
  );
}

export const CMD_TLBI_NH_ALL = tlbi("CMD_TLBI_NH_ALL", "IHI0070 4.4.2.1", { vmid: true });
export const CMD_TLBI_NH_ASID = tlbi("CMD_TLBI_NH_ASID", "IHI0070 4.4.2.2", { vmid: true, asid: true });
export const CMD_TLBI_NH_VA = tlbiAddress("CMD_TLBI_NH_VA", "IHI0070 4.4.2.4", { vmid: true, asid: true });
export const CMD_TLBI_NH_VAA = tlbiAddress("CMD_TLBI_NH_VAA", "IHI0070 4.4.2.3", { vmid: true });
export const CMD_TLBI_EL3_ALL = tlbi("CMD_TLBI_EL3_ALL", "IHI0070 4.4.2.5", {});
export const CMD_TLBI_EL3_VA = tlbiAddress("CMD_TLBI_EL3_VA", "IHI0070 4.4.2.6", {});
export const CMD_TLBI_EL2_ALL = tlbi("CMD_TLBI_EL2_ALL", "IHI0070 4.4.2.7", {});
export const CMD_TLBI_EL2_ASID = tlbi("CMD_TLBI_EL2_ASID", "IHI0070 4.4.2.10", { asid: true });
export const CMD_TLBI_EL2_VA = tlbiAddress("CMD_TLBI_EL2_VA", "IHI0070 4.4.2.8", { asid: true });
export const CMD_TLBI_EL2_VAA = tlbiAddress("CMD_TLBI_EL2_VAA", "IHI0070 4.4.2.9", {});
export const CMD_TLBI_S12_VMALL = tlbi("CMD_TLBI_S12_VMALL", "IHI0070 4.4.3.2", { vmid: true });
export const CMD_TLBI_S2_IPA = tlbiAddress("CMD_TLBI_S2_IPA", "IHI0070 4.4.3.1", {
  vmid: true,
  meaning: "intermediate physical address",
});
export const CMD_TLBI_NSNH_ALL = tlbi("CMD_TLBI_NSNH_ALL", "IHI0070 4.4.4.1", {});

export const CMD_ATC_INV = layout(
  { name: "CMD_ATC_INV", bits: 128, spec: "IHI0070 4.5.1" },
  {
    Opcode: opcode,
    _8: reserved(8),
    Global: bit(9, "entries of every PASID", { condition: "SSV = 1" }),
    SSec: sSec,
    SSV: ssv,
    SubstreamID: substreamId,
    StreamID: streamId,
    Size: uint(69, 64, "log2 of the 4 KiB pages; 52: everything"),
    _75_70: reserved(75, 70),
    Address: addr(127, 76, "start, aligned to the range"),
  },
);

/** CMD_PRI_RESP.Resp (4.5.2). */
export const PRI_RESP_CODE = { denied: 0, invalid: 1, success: 2 } as const;

export const CMD_PRI_RESP = layout(
  { name: "CMD_PRI_RESP", bits: 128, spec: "IHI0070 4.5.2" },
  {
    Opcode: opcode,
    _9_8: reserved(9, 8),
    SSec: sSec,
    SSV: ssv,
    SubstreamID: substreamId,
    StreamID: streamId,
    PRGIndex: uint(72, 64, "page request group"),
    _75_73: reserved(75, 73),
    Resp: oneOf(77, 76, PRI_RESP_CODE, "response failure, invalid request, or success"),
    _127_78: reserved(127, 78),
  },
);

export const CMD_RESUME = layout(
  { name: "CMD_RESUME", bits: 128, spec: "IHI0070 4.7.1" },
  {
    Opcode: opcode,
    _9_8: reserved(9, 8),
    SSec: sSec,
    _11: reserved(11),
    Ac: bit(12, "retry the transaction"),
    Ab: bit(13, "terminate with an abort; otherwise as RAZ/WI", { condition: "Ac = 0" }),
    _31_14: reserved(31, 14),
    StreamID: streamId,
    STAG: uint(79, 64, "the stalled transaction"),
    _127_80: reserved(127, 80),
  },
);

export const CMD_STALL_TERM = layout(
  { name: "CMD_STALL_TERM", bits: 128, spec: "IHI0070 4.7.2" },
  {
    Opcode: opcode,
    _9_8: reserved(9, 8),
    SSec: sSec,
    _31_11: reserved(31, 11),
    StreamID: streamId,
    _127_64: reserved(127, 64),
  },
);

/** CMD_SYNC.CS: how its completion is told (4.7.3). */
export const SYNC_CS = { none: 0, irq: 1, sev: 2 } as const;

export const CMD_SYNC = layout(
  { name: "CMD_SYNC", bits: 128, spec: "IHI0070 4.7.3" },
  {
    Opcode: opcode,
    _11_8: reserved(11, 8),
    CS: oneOf(13, 12, SYNC_CS, "completion signal"),
    _21_14: reserved(21, 14),
    MSH: uint(23, 22, "shareability of the message"),
    MSIAttr: uint(27, 24, "memory type of the message"),
    _31_28: reserved(31, 28),
    MSIData: uint(63, 32, "payload of the message"),
    _65_64: reserved(65, 64),
    MSIAddress: addr(115, 66, "address of the message; 0 sends none"),
    _127_116: reserved(127, 116),
  },
);

/** The layout of each opcode. */
export const COMMANDS: ReadonlyMap<number, AnyLayout> = new Map<number, AnyLayout>([
  [OPCODE.PREFETCH_CONFIG, CMD_PREFETCH_CONFIG],
  [OPCODE.PREFETCH_ADDR, CMD_PREFETCH_ADDR],
  [OPCODE.CFGI_STE, CMD_CFGI_STE],
  [OPCODE.CFGI_STE_RANGE, CMD_CFGI_STE_RANGE],
  [OPCODE.CFGI_CD, CMD_CFGI_CD],
  [OPCODE.CFGI_CD_ALL, CMD_CFGI_CD_ALL],
  [OPCODE.CFGI_VMS_PIDM, CMD_CFGI_VMS_PIDM],
  [OPCODE.TLBI_NH_ALL, CMD_TLBI_NH_ALL],
  [OPCODE.TLBI_NH_ASID, CMD_TLBI_NH_ASID],
  [OPCODE.TLBI_NH_VA, CMD_TLBI_NH_VA],
  [OPCODE.TLBI_NH_VAA, CMD_TLBI_NH_VAA],
  [OPCODE.TLBI_EL3_ALL, CMD_TLBI_EL3_ALL],
  [OPCODE.TLBI_EL3_VA, CMD_TLBI_EL3_VA],
  [OPCODE.TLBI_EL2_ALL, CMD_TLBI_EL2_ALL],
  [OPCODE.TLBI_EL2_ASID, CMD_TLBI_EL2_ASID],
  [OPCODE.TLBI_EL2_VA, CMD_TLBI_EL2_VA],
  [OPCODE.TLBI_EL2_VAA, CMD_TLBI_EL2_VAA],
  [OPCODE.TLBI_S12_VMALL, CMD_TLBI_S12_VMALL],
  [OPCODE.TLBI_S2_IPA, CMD_TLBI_S2_IPA],
  [OPCODE.TLBI_NSNH_ALL, CMD_TLBI_NSNH_ALL],
  [OPCODE.ATC_INV, CMD_ATC_INV],
  [OPCODE.PRI_RESP, CMD_PRI_RESP],
  [OPCODE.RESUME, CMD_RESUME],
  [OPCODE.STALL_TERM, CMD_STALL_TERM],
  [OPCODE.SYNC, CMD_SYNC],
]);
