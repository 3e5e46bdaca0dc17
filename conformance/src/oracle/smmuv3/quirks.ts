/**
 * Where QEMU 11.1's SMMUv3 deviates from the architecture. Applied when a transfer's answers differ, and only here: a quirk
 * names the circumstances, and what QEMU does in them where that can be said.
 */
import { TranslationStatus } from "@iommukit/core";
import {
  CD,
  EVENT,
  EVENT_CLASS,
  F_CD_FETCH,
  F_PERMISSION,
  F_TRANSLATION,
  F_WALK_EABT,
  L1STD,
  STE,
} from "@iommukit/iommu-smmuv3";
import { EDU_SID, TABLE_SPACING } from "./layout.js";
import type { Configuration, Outcome, TableRead } from "./outcome.js";

export interface Quirk {
  readonly name: string;
  /** One sentence. */
  readonly what: string;
  explains(outcome: Outcome): boolean;
}

/** By S2PS and IPS, capped at the 44 bits of the chip. */
const ADDRESS_BITS = [32, 36, 40, 42, 44, 44, 44, 44];
const SPLIT = 6;
/** Descriptors in the first 4 KiB of a table. */
const FIRST_PAGE = 512;
const AF = 1n << 10n;
const APTABLE_READ_ONLY = 1n << 62n;
/** By TG0 and S2TG. */
const GRANULE = [12, 16, 14, 0];
const GRANULE_STRIDE = [9, 13, 11, 0];

function configured(outcome: Outcome, holds: (configuration: Configuration) => boolean): boolean {
  return outcome.configurations.some(holds);
}

function stage(read: TableRead): number {
  return /^S[12] L/.test(read.table) ? Number(read.table[1]) : 0;
}

function level(read: TableRead): number {
  return Number(read.table[4]);
}

function isTable(read: TableRead): boolean {
  return stage(read) !== 0 && (read.value & 3n) === 3n && level(read) < 3;
}

/** The last translation table descriptor that the model read. */
function last(outcome: Outcome): TableRead | undefined {
  return outcome.reads.findLast((read) => stage(read) !== 0);
}

function readOnlyTable(reads: readonly TableRead[]): boolean {
  return reads.some((read) => stage(read) === 1 && isTable(read) && (read.value & APTABLE_READ_ONLY) !== 0n);
}

function field(record: Int32Array | null, get: { get(words: Int32Array): number }): number {
  return record === null ? -1 : get.get(record);
}

/** Both records are the same but for the bits of `mask`, word by word. */
function sameBut(outcome: Outcome, mask: Int32Array): boolean {
  const [mine, theirs] = [outcome.modelEvent, outcome.qemuEvent];
  return mine !== null && theirs !== null && mine.every((word, i) => ((word ^ theirs[i]) & ~mask[i]) === 0);
}

const PNU = F_TRANSLATION.encode({ PnU: true });
const ALL_IPA = 2n ** 52n - 0x1000n;

function ignoring(values: Parameters<typeof F_TRANSLATION.encode>[0]): Int32Array {
  const mask = F_TRANSLATION.encode(values);
  return mask.map((word, i) => word | PNU[i]);
}

/** Bits of an IPA that index the start table of stage 2. */
function startIndexBits({ ste }: Configuration): number {
  const stride = GRANULE_STRIDE[STE.S2TG.get(ste)];
  const sl0 = STE.S2SL0.get(ste);
  const start = STE.S2TG.get(ste) === 0 ? 2 - sl0 : 3 - sl0;
  return 64 - STE.S2T0SZ.get(ste) - (stride + 3 + (3 - start) * stride);
}

/** The model used another than the first of stage 2's concatenated start tables. */
function beyondFirstStartTable({ history, modelEvent, modelId }: Outcome, { ste }: Configuration): boolean {
  const stride = GRANULE_STRIDE[STE.S2TG.get(ste)];
  if ((STE.Config.get(ste) & 2) === 0) return false;
  if (history.some((read) => stage(read) === 2 && read.index >= 2 ** stride)) return true;
  if (modelEvent === null || modelId !== EVENT.F_WALK_EABT) return false;
  const index = (F_WALK_EABT.FetchAddr.get(modelEvent) - STE.S2TTB.get(ste)) / 8;
  return index >= 2 ** stride && index < 2 ** (stride + 4);
}

function nested(outcome: Outcome): boolean {
  return configured(outcome, ({ ste }) => (STE.Config.get(ste) & 3) === 3);
}

/** Where the record of a table access's fault says the descriptor is in its table; -1 for any other. */
function tableOffset(record: Int32Array | null): number {
  if (record === null || field(record, F_TRANSLATION.Class) !== EVENT_CLASS.TT) return -1;
  const eabt = F_TRANSLATION.ID.get(record) === EVENT.F_WALK_EABT;
  return (eabt ? F_WALK_EABT.FetchAddr : F_TRANSLATION.IPA).get(record) % TABLE_SPACING;
}

/** TTB1 translates it. */
function isHigh(iova: bigint): boolean {
  return ((iova >> 55n) & 1n) === 1n;
}

/** log2 of the granule; 0 is reserved. */
function stage1Granule(cd: Int32Array, iova: bigint): number {
  return isHigh(iova) ? [0, 14, 12, 16][CD.TG1.get(cd)] : GRANULE[CD.TG0.get(cd)];
}

/** A block descriptor where the granule has none: only level 1 of 4 KiB, and level 2, have blocks below 52 bits. */
function misplacedBlock(read: TableRead, { cd, ste }: Configuration, iova: bigint): boolean {
  if (stage(read) === 0 || (read.value & 3n) !== 1n || level(read) > 1) return false;
  const granule = stage(read) === 2 ? GRANULE[STE.S2TG.get(ste)] : stage1Granule(cd, iova);
  return level(read) === 0 || granule !== 12;
}

/** The stage 1 descriptor that the model was looking for when its walk ended is beyond the first 4 KiB of its table. */
function soughtBeyondFirstPage({ iova, reads }: Outcome, { cd }: Configuration): boolean {
  const granule = stage1Granule(cd, iova);
  if (granule === 0) return false;
  const bits = 64 - (isHigh(iova) ? CD.T1SZ : CD.T0SZ).get(cd);
  const stride = granule - 3;
  const above = reads.findLast((read) => stage(read) === 1);
  const sought = above === undefined ? 4 - Math.ceil((bits - granule) / stride) : level(above) + 1;
  const shift = granule + (3 - sought) * stride;
  const index = BigInt.asUintN(Math.min(stride, bits - shift), iova >> BigInt(shift));
  return sought <= 3 && index >= FIRST_PAGE;
}

function atTableStart(record: Int32Array | null): boolean {
  return tableOffset(record) === 0;
}

export const QUIRKS: readonly Quirk[] = [
  {
    name: "aptable-first",
    what: "APTable[1] faults at the table, before anything that is found below it",
    explains: (o) => o.write && o.qemuId === EVENT.F_PERMISSION && readOnlyTable(o.reads),
  },
  {
    name: "aptable-not-cached",
    what: "a TLB entry forgets the APTable of the walk that made it: a write through it succeeds, or stage 2 denies it",
    explains: (o) => {
      const { modelEvent, qemuEvent } = o;
      const denied = o.modelId === EVENT.F_PERMISSION || (modelEvent === null && o.status === TranslationStatus.FAULT);
      const passed = qemuEvent === null || (o.qemuId === EVENT.F_PERMISSION && F_PERMISSION.S2.get(qemuEvent) === 1);
      return o.write && denied && passed && last(o) === undefined && readOnlyTable(o.history);
    },
  },
  {
    name: "output-size-last",
    what: "the size of the output address is tested after access flag and permission",
    explains: (o) => {
      const leaf = last(o);
      if (o.modelId !== EVENT.F_ADDR_SIZE || leaf === undefined || isTable(leaf)) return false;
      return o.qemuId === EVENT.F_PERMISSION || (o.qemuId === EVENT.F_ACCESS && (leaf.value & AF) === 0n);
    },
  },
  {
    name: "table-address-size",
    what: "a table address that is too large is fetched: F_WALK_EABT instead of F_ADDR_SIZE",
    explains: (o) => {
      const table = last(o);
      // Recorded even where CD.R or STE.S2R say no.
      const faulted = o.modelId === EVENT.F_ADDR_SIZE || (o.modelId === 0 && o.status === TranslationStatus.FAULT);
      return faulted && o.qemuId === EVENT.F_WALK_EABT && table !== undefined && isTable(table);
    },
  },
  {
    name: "table-address-class",
    what: "F_ADDR_SIZE of a stage 1 table address has Class TT and an IPA in nested streams",
    explains: (o) => o.modelId === EVENT.F_ADDR_SIZE && sameBut(o, ignoring({ Class: 3, IPA: ALL_IPA })),
  },
  {
    name: "tlb-permission-ipa",
    what: "a permission fault of a TLB entry is recorded without its IPA, and as stage 2's if that stage denies as well",
    explains: (o) =>
      o.modelId === EVENT.F_PERMISSION && last(o) === undefined && sameBut(o, ignoring({ IPA: ALL_IPA, S2: true })),
  },
  {
    name: "bypass-size",
    what: "an address beyond the output size that bypasses stage 1 is no F_ADDR_SIZE",
    explains: (o) =>
      o.modelId === EVENT.F_ADDR_SIZE &&
      o.qemuId === 0 &&
      last(o) === undefined &&
      field(o.modelEvent, F_TRANSLATION.S2) === 0,
  },
  {
    name: "cd-fetch-address",
    what: "F_CD_FETCH has its address in InputAddr's place",
    explains: (o) => {
      if (o.modelId !== EVENT.F_CD_FETCH || o.qemuId !== EVENT.F_CD_FETCH) return false;
      return (
        F_CD_FETCH.FetchAddr.getBig(o.modelEvent as Int32Array) ===
        F_TRANSLATION.InputAddr.getBig(o.qemuEvent as Int32Array)
      );
    },
  },
  {
    name: "context-pointer-size",
    what: "S1ContextPtr beyond the output size is not ILLEGAL: the fetch fails, or stage 2 does",
    explains: (o) => {
      if (o.modelId !== EVENT.C_BAD_STE || ![0, EVENT.F_CD_FETCH, EVENT.F_TRANSLATION].includes(o.qemuId)) return false;
      return configured(o, ({ ste }) => STE.S1ContextPtr.get(ste) >= 2 ** 44);
    },
  },
  {
    name: "tbi1-is-tbi0",
    what: "the top byte of TTB1's range is ignored by TBI0 rather than TBI1",
    explains: (o) => {
      const high = ((o.iova >> 55n) & 1n) === 1n && o.iova >> 56n !== 0xffn;
      return high && configured(o, ({ cd }) => CD.TBI.get(cd) === 1 || CD.TBI.get(cd) === 2);
    },
  },
  {
    name: "tag-in-tlb",
    what: "a tagged address finds only TLB entries of the same tag",
    explains: (o) =>
      last(o) === undefined &&
      o.iova >> 56n !== 0n &&
      o.iova >> 56n !== 0xffn &&
      configured(o, ({ cd }) => CD.TBI.get(cd) !== 0),
  },
  {
    name: "config-cached-whole",
    what: "an STE is cached together with its CD or not at all: a change shows without invalidation where the CD was bad",
    explains: (o) => o.configurations.length > 1 && o.reads.every(({ table }) => table !== "STE"),
  },
  {
    name: "s2-httu",
    what: "S2HA and S2HD are not ILLEGAL without HTTU",
    explains: (o) =>
      o.modelId === EVENT.C_BAD_STE && configured(o, ({ ste }) => STE.S2HA.get(ste) === 1 || STE.S2HD.get(ste) === 1),
  },
  {
    name: "s2-start-level",
    what: "a stage 2 start level above what S2T0SZ needs is not ILLEGAL",
    explains: (o) =>
      o.modelId === EVENT.C_BAD_STE && configured(o, (configuration) => startIndexBits(configuration) < 1),
  },
  {
    name: "s1stalld-always",
    what: "S1STALLD is ILLEGAL in streams without stage 1 as well",
    explains: (o) =>
      o.qemuId === EVENT.C_BAD_STE &&
      configured(o, ({ ste }) => STE.S1STALLD.get(ste) === 1 && (STE.Config.get(ste) & 1) === 0),
  },
  {
    name: "s2-tlb-permission",
    what: "a stage 2 permission fault of a TLB entry is not recorded",
    explains: (o) =>
      o.modelId === EVENT.F_PERMISSION &&
      o.qemuId === 0 &&
      last(o) === undefined &&
      field(o.modelEvent, F_PERMISSION.S2) === 1,
  },
  {
    name: "s2-input-size",
    what: "stage 2 input larger than S2PS makes the STE ILLEGAL",
    explains: (o) =>
      o.qemuId === EVENT.C_BAD_STE &&
      configured(o, ({ ste }) => 64 - STE.S2T0SZ.get(ste) > ADDRESS_BITS[STE.S2PS.get(ste)]),
  },
  {
    name: "s2-concatenation",
    what: "of concatenated stage 2 start tables only the first is used",
    explains: (o) => configured(o, (configuration) => beyondFirstStartTable(o, configuration)),
  },
  {
    name: "cd-fault-rnw",
    what: "a stage 2 fault of the CD's fetch says RnW = 1 whatever the transaction was",
    explains: (o) => field(o.modelEvent, F_TRANSLATION.Class) === EVENT_CLASS.CD && sameBut(o, ignoring({ RnW: true })),
  },
  {
    name: "nested-range-record",
    what: "an address outside of T0SZ and T1SZ is recorded as S2R says, not CD.R, in nested streams",
    explains: (o) => {
      const one = o.modelId === EVENT.F_TRANSLATION && o.qemuId === 0;
      const other = o.qemuId === EVENT.F_TRANSLATION && o.modelId === 0 && o.status === TranslationStatus.FAULT;
      const walked = o.reads.some((read) => stage(read) === 1);
      return (one || other) && !walked && nested(o);
    },
  },
  {
    name: "ttb-with-cd",
    what: "both TTBs are translated when the CD is read, with RnW = 1: the one that the address does not need faults as well",
    explains: (o) => {
      const { qemuEvent } = o;
      if (field(qemuEvent, F_TRANSLATION.Class) !== EVENT_CLASS.TT) return false;
      const table = F_TRANSLATION.IPA.getBig(qemuEvent as Int32Array);
      return configured(o, ({ cd }) => [CD.TTB0, CD.TTB1].some((ttb) => ttb.getBig(cd) >> 12n === table >> 12n));
    },
  },
  {
    name: "ttb-cut",
    what: "the physical address that stage 2 gives a TTB is cut to IPS bits",
    explains: (o) => {
      if (o.modelId !== EVENT.F_WALK_EABT) return false;
      const fetched = F_WALK_EABT.FetchAddr.get(o.modelEvent as Int32Array);
      return nested(o) && configured(o, ({ cd }) => fetched >= 2 ** ADDRESS_BITS[CD.IPS.get(cd)]);
    },
  },
  {
    name: "nested-silent",
    what: "the additional and the missing stage 2 faults of table addresses leave no record on either side where S2R is 0",
    explains: (o) => {
      const silent = (o.modelEvent === null && o.status === TranslationStatus.FAULT) || o.qemuEvent === null;
      return silent && configured(o, ({ ste }) => (STE.Config.get(ste) & 3) === 3 && STE.S2R.get(ste) === 0);
    },
  },
  {
    name: "tt-fault-stage",
    what: "a stage 2 fault of a table walk is recorded as stage 1's: S2 = 0, TTRnW = 0, and only with CD.R",
    explains: (o) => {
      if (sameBut(o, ignoring({ S2: true, TTRnW: true })))
        return field(o.modelEvent, F_TRANSLATION.Class) === EVENT_CLASS.TT;
      const [one, other] = [o.modelEvent, o.qemuEvent];
      const faulted = o.status === TranslationStatus.FAULT && (one === null) !== (other === null);
      return faulted && field(one ?? other, F_TRANSLATION.Class) === EVENT_CLASS.TT;
    },
  },
  {
    name: "block-level",
    what: "a block descriptor at a level where the granule has none maps, and is cached, instead of faulting",
    explains: (o) => {
      const seen = [...o.history, ...o.reads];
      return configured(o, (configuration) => seen.some((read) => misplacedBlock(read, configuration, o.iova)));
    },
  },
  {
    name: "table-translated-once",
    what: "stage 2 translates a stage 1 table's first byte, not each descriptor's address",
    explains: (o) => {
      const walked = o.history.some((read) => stage(read) === 1 && read.index >= FIRST_PAGE);
      const sought = configured(o, (configuration) => soughtBeyondFirstPage(o, configuration));
      return nested(o) && (walked || sought || atTableStart(o.qemuEvent));
    },
  },
  {
    name: "level1-span",
    what: "2^Span STEs belong to a level 1 descriptor, any Span is accepted, and what is outside is C_BAD_STE",
    explains: (o) =>
      o.modelId === EVENT.C_BAD_STREAMID &&
      configured(o, ({ level1 }) => {
        const span = level1 === null ? 0 : L1STD.Span.get(level1);
        return o.qemuId === EVENT.C_BAD_STE || span > SPLIT + 1 || EDU_SID < 2 ** span;
      }),
  },
];
