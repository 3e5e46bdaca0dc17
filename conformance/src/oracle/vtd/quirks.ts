/**
 * Where QEMU 11.1's intel-iommu deviates from the architecture. Each quirk turns the model's answer to a case into the one that
 * is to be expected of QEMU; none touches the model. A quirk that does not apply returns what it was given. The reads in the
 * outcome are always the model's.
 */
import { LegacyFault, ScalableFault } from "@iommukit/iommu-vtd";
import { RID, type VtdMode } from "./board.js";
import type { VtdCase } from "./cases.js";
import type { EntryRead, Outcome } from "./model.js";

/** What a case leaves: the request's end, and the paging entries on its way, root first. */
export interface Expectation {
  readonly outcome: Outcome;
  readonly entries: readonly bigint[];
}

export interface Quirk {
  readonly name: string;
  readonly why: string;
  apply(mode: VtdMode, given: VtdCase, expected: Expectation): Expectation;
}

const PAGE_MASK = ~0xfffn & 0xffff_ffff_ffff_ffffn;
const ADDRESS_BITS = 0xf_ffff_ffff_f000n;
const P = 1n;
const FPD = 2n;
const RW = 2n;
const US = 4n;
const A = 0x20n;
const D = 0x40n;

/** The fault record of a request for `reason`. */
function recordOf(given: VtdCase, reason: number): readonly [bigint, bigint] {
  const hi = (1n << 63n) | (given.write ? 0n : 1n << 62n) | (BigInt(reason) << 32n) | BigInt(RID);
  return [given.iova & PAGE_MASK, hi];
}

/** The same end with another fault reason; a fault that FPD keeps out of the record stays out. */
function withReason(given: VtdCase, expected: Expectation, reason: number): Expectation {
  const { outcome } = expected;
  const silent = outcome.reason !== 0 && outcome.record[1] === 0n;
  return { ...expected, outcome: { ...outcome, reason, record: silent ? [0n, 0n] : recordOf(given, reason), pa: -1 } };
}

/** Entries from that read on keep the value that they had before the request. */
function untouchedFrom(given: VtdCase, expected: Expectation, first: number): Expectation {
  const before = new Map(expected.outcome.reads.slice(first).map(({ address, value }) => [address, value]));
  return { ...expected, entries: expected.entries.map((value, index) => before.get(given.path[index].pa) ?? value) };
}

/** Legacy mode: CONTEXT_ENTRY.TT is 10b. */
function passThrough({ context }: VtdCase): boolean {
  return ((context >> 2n) & 3n) === 2n;
}

/** The architecture's code for faults of root, context and second stage, and QEMU's. */
const LEGACY_CODES = new Map<number, number>([
  [ScalableFault.ROOT_ACCESS.code, LegacyFault.ROOT_ACCESS.code],
  [ScalableFault.ROOT_NOT_PRESENT.code, LegacyFault.ROOT_NOT_PRESENT.code],
  [ScalableFault.ROOT_RESERVED.code, LegacyFault.ROOT_RESERVED.code],
  [ScalableFault.CONTEXT_NOT_PRESENT.code, LegacyFault.CONTEXT_NOT_PRESENT.code],
  [ScalableFault.CONTEXT_RESERVED.code, LegacyFault.CONTEXT_RESERVED.code],
  [ScalableFault.CONTEXT_ACCESS.code, LegacyFault.CONTEXT_ACCESS.code],
  [ScalableFault.SECOND_STAGE_ACCESS.code, LegacyFault.PAGING_ENTRY_ACCESS.code],
  [ScalableFault.SECOND_STAGE_ROOT_ACCESS.code, LegacyFault.CONTEXT_INVALID.code],
  [ScalableFault.SECOND_STAGE_RESERVED.code, LegacyFault.PAGING_ENTRY_RESERVED.code],
  [ScalableFault.BEYOND_SECOND_STAGE.code, LegacyFault.BEYOND_MGAW.code],
]);

function deniedCode(write: boolean): number {
  return write ? LegacyFault.WRITE_DENIED.code : LegacyFault.READ_DENIED.code;
}

const WALK_FAULTS = new Set<number>([
  0,
  LegacyFault.PAGING_ENTRY_ACCESS.code,
  ScalableFault.SECOND_STAGE_ACCESS.code,
  ScalableFault.FIRST_STAGE_ACCESS.code,
  LegacyFault.READ_DENIED.code,
  LegacyFault.WRITE_DENIED.code,
  LegacyFault.PAGING_ENTRY_RESERVED.code,
  LegacyFault.INTERRUPT_ADDRESS.code,
  ScalableFault.SECOND_STAGE_DENIED.code,
  ScalableFault.SECOND_STAGE_RESERVED.code,
  ScalableFault.WRITE_DENIED.code,
  ScalableFault.READ_DENIED.code,
  ScalableFault.INTERRUPT_ADDRESS.code,
  ScalableFault.FIRST_STAGE_NOT_PRESENT.code,
  ScalableFault.FIRST_STAGE_RESERVED.code,
  ScalableFault.USER_DENIED.code,
]);

/** Index of the first entry that QEMU's first stage refuses for permission, and the code; entry by entry, P before the rest. */
function firstStageDenial(reads: readonly EntryRead[], write: boolean): readonly [index: number, code: number] {
  for (const [index, { value }] of reads.entries()) {
    if ((value & P) === 0n) break;
    if ((value & US) === 0n) return [index, ScalableFault.USER_DENIED.code];
    if (write && (value & RW) === 0n) return [index, ScalableFault.WRITE_DENIED.code];
  }
  return [-1, 0];
}

export const quirks: readonly Quirk[] = [
  {
    name: "second-stage permission first",
    why: "an entry that lacks the permission faults at once, before its reserved bits and before what is below it",
    apply(mode, given, expected) {
      const { reason, reads } = expected.outcome;
      if (mode === "fs" || !WALK_FAULTS.has(reason)) return expected;
      const denied = reads.some(({ value }) => (value & (given.write ? 2n : 1n)) === 0n);
      return denied ? withReason(given, expected, deniedCode(given.write)) : expected;
    },
  },
  {
    name: "first-stage permission first",
    why: "U/S and R/W are tested entry by entry, before reserved bits and before a not-present entry below; no accessed bit is set from there on",
    apply(mode, given, expected) {
      const { reason, reads } = expected.outcome;
      if (mode !== "fs" || !WALK_FAULTS.has(reason)) return expected;
      const [index, code] = firstStageDenial(reads, given.write);
      return index < 0 ? expected : untouchedFrom(given, withReason(given, expected, code), index);
    },
  },
  {
    name: "accessed or dirty, not both",
    why: "a written leaf that has one of the two bits does not get the other",
    apply(mode, given, expected) {
      const leaf = expected.outcome.reads.at(-1);
      if (
        mode !== "fs" ||
        !given.write ||
        expected.outcome.reason !== 0 ||
        leaf === undefined ||
        (leaf.value & (A | D)) === 0n
      )
        return expected;
      return untouchedFrom(given, expected, expected.outcome.reads.length - 1);
    },
  },
  {
    name: "marked in the interrupt range",
    why: "a leaf whose page is in the interrupt range is marked accessed and dirty before the fault",
    apply(mode, given, expected) {
      const { reason, reads } = expected.outcome;
      const leaf = reads.at(-1);
      if (mode !== "fs" || reason !== ScalableFault.INTERRUPT_ADDRESS.code || leaf === undefined) return expected;
      const marked = given.write ? ((leaf.value & (A | D)) === 0n ? leaf.value | A | D : leaf.value) : leaf.value | A;
      return {
        ...expected,
        entries: expected.entries.map((value, index) => (given.path[index].pa === leaf.address ? marked : value)),
      };
    },
  },
  {
    name: "legacy codes in scalable mode",
    why: "root, context and second stage report the reasons of legacy mode",
    apply(mode, given, expected) {
      const code = LEGACY_CODES.get(expected.outcome.reason);
      return mode === "legacy" || code === undefined ? expected : withReason(given, expected, code);
    },
  },
  {
    name: "pass-through without a limit",
    why: "the address of a pass-through request is not compared with the host address width",
    apply(mode, given, expected) {
      const { reason, reads } = expected.outcome;
      const limited =
        reason === ScalableFault.BEYOND_HOST_WIDTH.code ||
        (mode === "legacy" && reason === LegacyFault.BEYOND_MGAW.code && passThrough(given));
      if (!limited || reads.length > 0) return expected;
      return {
        ...expected,
        outcome: { ...expected.outcome, reason: 0, record: [0n, 0n], pa: Number(given.iova & ADDRESS_BITS) },
      };
    },
  },
  {
    name: "reserved context bits in spite of FPD",
    why: "non-zero reserved bits of a context entry are recorded although its FPD is set; the architecture calls the fault qualified (table 30)",
    apply(_mode, given, expected) {
      const { outcome } = expected;
      if (outcome.reason !== LegacyFault.CONTEXT_RESERVED.code || outcome.record[1] !== 0n) return expected;
      return { ...expected, outcome: { ...outcome, record: recordOf(given, outcome.reason) } };
    },
  },
  {
    name: "FPD of the directory comes late",
    why: "a PASID table entry that is not present or invalid is recorded although FPD is set in the directory entry above it",
    apply(_mode, given, expected) {
      const { outcome } = expected;
      const ofEntry =
        outcome.reason === ScalableFault.PASID_NOT_PRESENT.code || outcome.reason === ScalableFault.PASID_INVALID.code;
      if (!ofEntry || (given.context & FPD) !== 0n || (given.directory & FPD) === 0n) return expected;
      return { ...expected, outcome: { ...outcome, record: recordOf(given, outcome.reason) } };
    },
  },
  {
    name: "table pointer of pass-through",
    why: "bits of SSPTPTR above the host address width are reserved although pass-through ignores the field (9.3)",
    apply(mode, given, expected) {
      const { reason } = expected.outcome;
      const reached =
        reason === 0 || reason === LegacyFault.BEYOND_MGAW.code || reason === LegacyFault.INTERRUPT_ADDRESS.code;
      if (mode !== "legacy" || !passThrough(given) || !reached || given.context >> 48n === 0n) return expected;
      return {
        ...expected,
        outcome: {
          ...expected.outcome,
          reason: LegacyFault.CONTEXT_RESERVED.code,
          record: recordOf(given, LegacyFault.CONTEXT_RESERVED.code),
          pa: -1,
        },
      };
    },
  },
  {
    name: "fault address is not cut",
    why: "FRCD.FI holds all 52 bits of the page address; the architecture reserves those above the widest guest address (11.4.7.6)",
    apply(_mode, given, expected) {
      const { outcome } = expected;
      const [, hi] = outcome.record;
      return hi === 0n ? expected : { ...expected, outcome: { ...outcome, record: [given.iova & PAGE_MASK, hi] } };
    },
  },
];

export function expectedOfQemu(mode: VtdMode, given: VtdCase, model: Expectation): Expectation {
  return quirks.reduce((expected, quirk) => quirk.apply(mode, given, expected), model);
}

/**
 * Quirk of the tables: QEMU's first stage takes the width of canonical addresses from AW, a field of the second stage that the
 * architecture wants zero on a unit without one. The first 8 bytes of a PASID table entry as QEMU needs them: 48 bits.
 */
export function withWidth(value: bigint): bigint {
  return value | (2n << 2n);
}
