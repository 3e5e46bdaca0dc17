/**
 * VT-d's paging tables: the second stage (3.7, 9.8), the first stage (3.6, 9.7), and the first inside of the second (3.8).
 * Left out: bits that are reserved by what the unit can do.
 */
import {
  bitsOfLevels,
  type FaultReason,
  FIRST_STAGE_ENTRY,
  levelsOf,
  PASID_ENTRY,
  ScalableFault,
  SECOND_STAGE_ENTRY,
} from "@iommukit/iommu-vtd";
import { briefly, indexText, type Walker, type WalkRequest, within, writes } from "./step.js";
import { both, firstStageRights, grants, type Rights } from "./vtd-rights.js";
import { stop } from "./vtd-stop.js";

export interface Page {
  readonly address: bigint;
  /** log2 of the page. */
  readonly shift: number;
  readonly rights: Rights;
  /** First level of a second stage whose entry takes a right away. */
  readonly deniedAt?: number | undefined;
  /** Every first-stage entry is the user's as well; undefined without a first stage. */
  readonly user?: boolean;
}

export interface SecondStage {
  readonly start: bigint;
  readonly aw: number;
  /** Before the name of each level: empty when there is one stage only. */
  readonly prefix: string;
  /** Reasons of the mode. */
  readonly beyond: FaultReason;
  readonly absent: FaultReason;
}

/** Ends at the leaf, whose rights may lack what was asked; only a missing entry stops here. */
export function secondStage(walker: Walker, { start, aw, prefix, beyond, absent }: SecondStage, address: bigint): Page {
  const what = prefix === "" ? "" : "second stage: ";
  const levels = levelsOf(aw);
  if (address >> BigInt(bitsOfLevels(levels)) !== 0n)
    stop(walker, `${what}the address has more than ${bitsOfLevels(levels)} bits`, beyond);
  let [read, write] = [true, true];
  let deniedAt: number | undefined;
  let table = start;
  for (let level = levels; ; level--) {
    const { index, shift } = slot(address, level);
    const at = table + BigInt(index * 8);
    const words = walker.read(`${prefix}L${level}[${indexText(index)}]`, at, SECOND_STAGE_ENTRY, (w) =>
      briefly(SECOND_STAGE_ENTRY, w, ["R", "W"], ["ADDR"]),
    );
    if (SECOND_STAGE_ENTRY.R.get(words) === 0 && SECOND_STAGE_ENTRY.W.get(words) === 0)
      stop(walker, `${what}level ${level} entry is not present`, absent);
    read &&= SECOND_STAGE_ENTRY.R.get(words) === 1;
    write &&= SECOND_STAGE_ENTRY.W.get(words) === 1;
    if (!read || !write) deniedAt ??= level;
    if (!read && !write && absent === ScalableFault.SECOND_STAGE_DENIED)
      stop(walker, `${what}level ${level} entry leaves no right`, absent);
    table = SECOND_STAGE_ENTRY.ADDR.getBig(words);
    // What can be read can be executed: the second stage knows no execute permission of its own here.
    if (level === 1 || (level <= 3 && SECOND_STAGE_ENTRY.PS.get(words) === 1))
      return { address: within(table, shift, address), shift, rights: { read, write, execute: read }, deniedAt };
  }
}

/** @param through the second stage of a nested entry: tables and pages are found through it */
export function firstStage(walker: Walker, entry: Int32Array, request: WalkRequest, through?: SecondStage): Page {
  const { address } = request;
  const levels = PASID_ENTRY.FSPM.get(entry) === 1 ? 5 : 4;
  const prefix = through === undefined ? "" : "FS ";
  if (BigInt.asUintN(64, BigInt.asIntN(bitsOfLevels(levels), address)) !== address)
    stop(walker, "the address is not canonical", ScalableFault.NOT_CANONICAL);
  let [user, writable, executable] = [true, true, true];
  let table = tablePage(
    walker,
    entry,
    PASID_ENTRY.FSPTPTR.getBig(entry),
    through,
    ScalableFault.NESTED_ROOT_READ_DENIED,
  );
  for (let level = levels; ; level--) {
    const { index, shift } = slot(address, level);
    const at = table.address + BigInt(index * 8);
    const words = walker.read(`${prefix}L${level}[${indexText(index)}]`, at, FIRST_STAGE_ENTRY, (w) =>
      briefly(FIRST_STAGE_ENTRY, w, ["P", "RW", "US", "A", "D", "XD"], ["ADDR"]),
    );
    if (FIRST_STAGE_ENTRY.P.get(words) === 0)
      stop(walker, `level ${level} entry not present`, ScalableFault.FIRST_STAGE_NOT_PRESENT);
    user &&= FIRST_STAGE_ENTRY.US.get(words) === 1;
    writable &&= FIRST_STAGE_ENTRY.RW.get(words) === 1;
    executable &&= FIRST_STAGE_ENTRY.XD.get(words) === 0 || PASID_ENTRY.NXE.get(entry) === 0;
    const next = FIRST_STAGE_ENTRY.ADDR.getBig(words);
    const leaf = level === 1 || (level <= 3 && FIRST_STAGE_ENTRY.PS.get(words) === 1);
    const own = firstStageRights(entry, { user, writable, executable }, request.privileged);
    const page = { address: within(next, shift, address), shift, rights: own };
    const outer = leaf && through !== undefined ? secondStage(walker, through, page.address) : page;
    const rights = both(own, outer.rights);
    if (!table.rights.write && mustMark(entry, words, leaf, request, rights))
      stop(walker, `level ${level} entry cannot be marked accessed or dirty`, ScalableFault.NESTED_ENTRY_WRITE_DENIED);
    if (leaf) return { address: outer.address, shift: Math.min(shift, outer.shift), rights, user };
    table = tablePage(walker, entry, next, through, ScalableFault.NESTED_ENTRY_READ_DENIED);
  }
}

/** Where a first-stage table lies. With SSADE that read counts as a write (3.8.1). */
function tablePage(
  walker: Walker,
  entry: Int32Array,
  table: bigint,
  through: SecondStage | undefined,
  denied: FaultReason,
): Pick<Page, "address" | "rights"> {
  if (through === undefined) return { address: table, rights: { read: true, write: true, execute: true } };
  const page = secondStage(walker, through, table);
  if (!page.rights.read || (PASID_ENTRY.SSADE.get(entry) === 1 && !page.rights.write))
    stop(walker, "second stage: the first stage's table may not be read", denied);
  return page;
}

/** 3.6.2: A at every level, D at the leaf, of a request that is granted. */
function mustMark(entry: Int32Array, words: Int32Array, leaf: boolean, request: WalkRequest, rights: Rights): boolean {
  if (leaf && !grants(rights, request)) return false;
  if (FIRST_STAGE_ENTRY.A.get(words) === 0) return true;
  if (PASID_ENTRY.EAFE.get(entry) === 1 && FIRST_STAGE_ENTRY.EA.get(words) === 0) return true;
  return leaf && writes(request) && FIRST_STAGE_ENTRY.D.get(words) === 0;
}

/** Nine bits of the address at each level; level 1 is the one of 4 KiB pages. */
function slot(address: bigint, level: number): { index: number; shift: number } {
  const shift = bitsOfLevels(level - 1);
  return { index: Number((address >> BigInt(shift)) & 0x1ffn), shift };
}
