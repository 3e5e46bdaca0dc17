/**
 * Event records, IHI 0070 7.3: 32 bytes each, the event number in the lowest byte. F_UUT, E_PAGE_REQUEST, F_TLB_CONFLICT,
 * F_CFG_CONFLICT and F_VMS_FETCH are decoded, never produced by this chip: it has no upstream protocol errors, gives no
 * speculative hints, resolves conflicts by taking one entry, and has no MPAM.
 */
import { type AnyLayout, addr, bit, layout, oneOf, reserved, uint } from "@iommukit/core";

/** Numbers of the events by name. */
export const EVENT = {
  F_UUT: 0x01,
  C_BAD_STREAMID: 0x02,
  F_STE_FETCH: 0x03,
  C_BAD_STE: 0x04,
  F_BAD_ATS_TREQ: 0x05,
  F_STREAM_DISABLED: 0x06,
  F_TRANSL_FORBIDDEN: 0x07,
  C_BAD_SUBSTREAMID: 0x08,
  F_CD_FETCH: 0x09,
  C_BAD_CD: 0x0a,
  F_WALK_EABT: 0x0b,
  F_TRANSLATION: 0x10,
  F_ADDR_SIZE: 0x11,
  F_ACCESS: 0x12,
  F_PERMISSION: 0x13,
  F_TLB_CONFLICT: 0x20,
  F_CFG_CONFLICT: 0x21,
  E_PAGE_REQUEST: 0x24,
  F_VMS_FETCH: 0x25,
} as const;

/** What was being done when a fault was found. */
export const EVENT_CLASS = { CD: 0, TT: 1, IN: 2 } as const;

const id = oneOf(7, 0, EVENT, "event number");
const ssv = bit(11, "SubstreamID is valid");
const substreamId = uint(31, 12, "SubstreamID");
const streamId = uint(63, 32, "StreamID");
const reason = uint(79, 64, "implementation defined reason; 0 here");
const inputAddr = uint(191, 128, "address of the transaction");

const head = { ID: id, _10_8: reserved(10, 8), SSV: ssv, SubstreamID: substreamId, StreamID: streamId } as const;

function headOnly(name: string, spec: string, summary: string) {
  return layout({ name, bits: 256, spec, summary }, { ...head, Reason: reason, _255_80: reserved(255, 80) });
}

function fetch(name: string, spec: string, summary: string) {
  return layout(
    { name, bits: 256, spec, summary },
    {
      ...head,
      Reason: reason,
      _194_80: reserved(194, 80),
      FetchAddr: addr(243, 195, "physical address that could not be read"),
      _255_244: reserved(255, 244),
    },
  );
}

function withInput(name: string, spec: string, summary: string) {
  return layout(
    { name, bits: 256, spec, summary },
    {
      ...head,
      Reason: reason,
      _96_80: reserved(96, 80),
      PnU: bit(97, "privileged"),
      InD: bit(98, "instruction fetch"),
      RnW: bit(99, "read"),
      _127_100: reserved(127, 100),
      InputAddr: inputAddr,
      _255_192: reserved(255, 192),
    },
  );
}

function translationFault(name: string, spec: string, summary: string) {
  return layout(
    { name, bits: 256, spec, summary },
    {
      ...head,
      STAG: uint(79, 64, "identifies the transaction to CMD_RESUME", { condition: "Stall = 1" }),
      _94_80: reserved(94, 80),
      Stall: bit(95, "the transaction is stalled"),
      _96: reserved(96),
      PnU: bit(97, "privileged, after STE overrides"),
      InD: bit(98, "instruction fetch, after STE overrides"),
      RnW: bit(99, "read"),
      _101_100: reserved(101, 100),
      NSIPA: bit(102, "the IPA is Non-secure; Secure streams only"),
      S2: bit(103, "the fault is stage 2's"),
      Class: oneOf(105, 104, EVENT_CLASS, "fetching a CD, walking a table, or the input address itself"),
      _107_106: reserved(107, 106),
      TTRnW: bit(108, "the table access was a read", { condition: "S2 = 1 and Class = TT" }),
      _127_109: reserved(127, 109),
      InputAddr: inputAddr,
      _203_192: reserved(203, 192),
      IPA: addr(243, 204, "intermediate physical address", { condition: "S2 = 1" }),
      _255_244: reserved(255, 244),
    },
  );
}

export const F_UUT = withInput("F_UUT", "IHI0070 7.3.2", "Unsupported upstream transaction.");
export const C_BAD_STREAMID = headOnly(
  "C_BAD_STREAMID",
  "IHI0070 7.3.3",
  "The StreamID is outside of the stream table.",
);
export const F_STE_FETCH = fetch(
  "F_STE_FETCH",
  "IHI0070 7.3.4",
  "External abort while fetching the STE or its level 1 descriptor.",
);
export const C_BAD_STE = headOnly("C_BAD_STE", "IHI0070 7.3.5", "The STE is invalid or ILLEGAL.");

export const F_BAD_ATS_TREQ = layout(
  { name: "F_BAD_ATS_TREQ", bits: 256, spec: "IHI0070 7.3.6", summary: "An ATS Translation Request was refused." },
  {
    ...head,
    Span: uint(71, 64, "translation units that were asked for"),
    _95_72: reserved(95, 72),
    PRIV: bit(96, "Privileged Mode Requested, before STE overrides"),
    X: bit(97, "Execute Requested"),
    W: bit(98, "write is wanted: NW = 0"),
    R: bit(99, "read is wanted: always"),
    _127_100: reserved(127, 100),
    InputAddr: inputAddr,
    _255_192: reserved(255, 192),
  },
);

export const F_STREAM_DISABLED = layout(
  {
    name: "F_STREAM_DISABLED",
    bits: 256,
    spec: "IHI0070 7.3.7",
    summary: "No substream where S1DSS = 0, or SubstreamID 0 where S1DSS = 2.",
  },
  {
    ID: id,
    _31_8: reserved(31, 8),
    StreamID: streamId,
    _255_64: reserved(255, 64),
  },
);

export const F_TRANSL_FORBIDDEN = layout(
  {
    name: "F_TRANSL_FORBIDDEN",
    bits: 256,
    spec: "IHI0070 7.3.8",
    summary: "An ATS Translated transaction of a stream that may not send one.",
  },
  {
    ID: id,
    _31_8: reserved(31, 8),
    StreamID: streamId,
    _98_64: reserved(98, 64),
    RnW: bit(99, "read"),
    _127_100: reserved(127, 100),
    InputAddr: inputAddr,
    _255_192: reserved(255, 192),
  },
);

export const C_BAD_SUBSTREAMID = layout(
  {
    name: "C_BAD_SUBSTREAMID",
    bits: 256,
    spec: "IHI0070 7.3.9",
    summary: "The SubstreamID is outside of the CD table or the stream has none.",
  },
  {
    ID: id,
    _11_8: reserved(11, 8),
    SubstreamID: substreamId,
    StreamID: streamId,
    _255_64: reserved(255, 64),
  },
);

export const F_CD_FETCH = fetch(
  "F_CD_FETCH",
  "IHI0070 7.3.10",
  "External abort while fetching the CD or its level 1 descriptor.",
);
export const C_BAD_CD = headOnly("C_BAD_CD", "IHI0070 7.3.11", "The CD is invalid or ILLEGAL.");

export const F_WALK_EABT = layout(
  {
    name: "F_WALK_EABT",
    bits: 256,
    spec: "IHI0070 7.3.12",
    summary: "External abort while walking a translation table.",
  },
  {
    ...head,
    Reason: reason,
    _96_80: reserved(96, 80),
    PnU: bit(97, "privileged, after STE overrides"),
    InD: bit(98, "instruction fetch, after STE overrides"),
    RnW: bit(99, "read"),
    _102_100: reserved(102, 100),
    S2: bit(103, "the walk was stage 2's"),
    Class: oneOf(105, 104, EVENT_CLASS, "what the stage 2 walk was for"),
    _107_106: reserved(107, 106),
    TTRnW: bit(108, "the table access was a read", { condition: "S2 = 1 and Class = TT" }),
    _127_109: reserved(127, 109),
    InputAddr: inputAddr,
    _194_192: reserved(194, 192),
    FetchAddr: addr(243, 195, "physical address that could not be read"),
    _255_244: reserved(255, 244),
  },
);

export const F_TRANSLATION = translationFault(
  "F_TRANSLATION",
  "IHI0070 7.3.13",
  "No translation: out of range, walks disabled, or an invalid descriptor.",
);
export const F_ADDR_SIZE = translationFault(
  "F_ADDR_SIZE",
  "IHI0070 7.3.14",
  "An output or table address is too large.",
);
export const F_ACCESS = translationFault("F_ACCESS", "IHI0070 7.3.15", "The access flag is clear.");
export const F_PERMISSION = translationFault("F_PERMISSION", "IHI0070 7.3.16", "The page does not allow the access.");
export const F_TLB_CONFLICT = withInput("F_TLB_CONFLICT", "IHI0070 7.3.17", "Two TLB entries match.");
export const F_CFG_CONFLICT = headOnly("F_CFG_CONFLICT", "IHI0070 7.3.18", "Two configuration cache entries match.");

export const E_PAGE_REQUEST = layout(
  {
    name: "E_PAGE_REQUEST",
    bits: 256,
    spec: "IHI0070 7.3.19",
    summary: "A hint that pages will be needed; not a PCIe page request.",
  },
  {
    ...head,
    _96_64: reserved(96, 64),
    uX: bit(97, "unprivileged execute"),
    uW: bit(98, "unprivileged write"),
    uR: bit(99, "unprivileged read"),
    _100: reserved(100),
    pX: bit(101, "privileged execute"),
    pW: bit(102, "privileged write"),
    pR: bit(103, "privileged read"),
    _107_104: reserved(107, 104),
    Span: uint(115, 108, "pages"),
    _127_116: reserved(127, 116),
    _139_128: reserved(139, 128),
    InputAddr: addr(191, 140, "first page"),
    _255_192: reserved(255, 192),
  },
);

export const F_VMS_FETCH = fetch("F_VMS_FETCH", "IHI0070 7.3.20", "External abort while fetching a VMS.");

/** The layout of each event number. */
export const EVENTS: ReadonlyMap<number, AnyLayout> = new Map<number, AnyLayout>([
  [EVENT.F_UUT, F_UUT],
  [EVENT.C_BAD_STREAMID, C_BAD_STREAMID],
  [EVENT.F_STE_FETCH, F_STE_FETCH],
  [EVENT.C_BAD_STE, C_BAD_STE],
  [EVENT.F_BAD_ATS_TREQ, F_BAD_ATS_TREQ],
  [EVENT.F_STREAM_DISABLED, F_STREAM_DISABLED],
  [EVENT.F_TRANSL_FORBIDDEN, F_TRANSL_FORBIDDEN],
  [EVENT.C_BAD_SUBSTREAMID, C_BAD_SUBSTREAMID],
  [EVENT.F_CD_FETCH, F_CD_FETCH],
  [EVENT.C_BAD_CD, C_BAD_CD],
  [EVENT.F_WALK_EABT, F_WALK_EABT],
  [EVENT.F_TRANSLATION, F_TRANSLATION],
  [EVENT.F_ADDR_SIZE, F_ADDR_SIZE],
  [EVENT.F_ACCESS, F_ACCESS],
  [EVENT.F_PERMISSION, F_PERMISSION],
  [EVENT.F_TLB_CONFLICT, F_TLB_CONFLICT],
  [EVENT.F_CFG_CONFLICT, F_CFG_CONFLICT],
  [EVENT.E_PAGE_REQUEST, E_PAGE_REQUEST],
  [EVENT.F_VMS_FETCH, F_VMS_FETCH],
]);
