/**
 * Linux's debugfs files invalidation_queue, ir_translation_struct and <bdf>/domain_translation_struct. Each begins with lines
 * that say what follows; rows without them are not taken. Empty entries of the queue are passed over, pages that follow each
 * other are one record.
 */
import { DESCRIPTORS, FIRST_STAGE_ENTRY, IRTE, POSTED_IRTE, SECOND_STAGE_ENTRY } from "@iommukit/iommu-vtd";
import { canonicalBdf, hex, ridOf } from "../hex.js";
import type { Emit, Line, Recogniser } from "../recogniser.js";
import { type ExplainRecord, partOf, reservedNotes, wordsOf } from "../record.js";
import { structure } from "./words.js";

const QUEUE = /^\s*Invalidation queue on IOMMU: (dmar\d+)\s*$/;
const INDEXES = /^\s*Base: 0x[0-9a-f]+\s+Head: (\d+)\s+Tail: (\d+)\s*$/i;
const INTERRUPTS = /^\s*(Remapped|Posted) Interrupt supported on IOMMU: (dmar\d+)\s*$/;
const PAGES = /^\s*Device ([0-9a-f:.]+) (?:with pasid ([0-9a-f]+) )?@0x([0-9a-f]+)\s*$/i;
const HEADINGS = /^\s*(?:Index\s+qw0\b.*|Entry SrcID\s.*|IR table address:[0-9a-fx]+\s*|IOVA_PFN\s.*)$/i;
const QUEUE_ROW = /^\s*(\d{1,4})\s+((?:[0-9a-f]{16}\s+){2,4})([0-9a-f]{16})\s*$/i;
const INTERRUPT_ROW =
  /^\s*(\d{1,5})\s+([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])\s+(?:[0-9a-f]{8}\s+){1,2}[0-9a-f]{2}\s+([0-9a-f]{16})\s+([0-9a-f]{16})\s*$/i;
const PAGE_ROW = /^\s*0x([0-9a-f]{13}) ?\|((?:\s+0x[0-9a-f]{16}){3,5})\s*$/i;

/** Below this level of the tables there is a page: PTE, PDE, PDPE. */
const COLUMNS = 5;

type Section =
  | { readonly kind: "queue"; readonly unit: string; head: number; tail: number }
  | { readonly kind: "interrupts"; readonly unit: string; readonly posted: boolean }
  | {
      readonly kind: "pages";
      readonly device: string;
      readonly pasid: number | undefined;
      readonly table: bigint;
    };

/** The entries on the way to one page, for those who want the tables themselves. */
export interface PageRow {
  /** The table of the highest level. */
  readonly table: bigint;
  readonly iova: bigint;
  /** From level 5 down to the page; zero for levels that the tables do not have. */
  readonly entries: readonly bigint[];
}

/** Pages one after the other, in addresses of the device and of memory, with the same rights. */
interface Run {
  readonly line: number;
  readonly raw: string[];
  readonly iova: bigint;
  readonly pa: bigint;
  readonly leaf: bigint;
  readonly level: number;
  end: bigint;
}

export class VtdDebugfsRecogniser implements Recogniser {
  #section: Section | undefined;
  #run: Run | undefined;

  constructor(private readonly onPage?: (row: PageRow) => void) {}

  take(line: Line, emit: Emit): boolean {
    const section = heading(line.text);
    if (section !== undefined) {
      this.end(emit);
      this.#section = section;
      return true;
    }
    if (this.#section === undefined) return false;
    if (HEADINGS.test(line.text)) return true;
    const indexes = INDEXES.exec(line.text);
    if (indexes !== null && this.#section.kind === "queue") {
      this.#section.head = Number(indexes[1]);
      this.#section.tail = Number(indexes[2]);
      return true;
    }
    if (this.#row(this.#section, line, emit)) return true;
    // An empty line may stand between tables; anything else ends them.
    if (line.text.trim() !== "") this.end(emit);
    return false;
  }

  #row(section: Section, line: Line, emit: Emit): boolean {
    if (section.kind === "queue") return queueRow(section, line, emit);
    if (section.kind === "interrupts") return interruptRow(section, line, emit);
    return this.#pageRow(section, line, emit);
  }

  #pageRow(section: Section & { kind: "pages" }, line: Line, emit: Emit): boolean {
    const match = PAGE_ROW.exec(line.text);
    if (match === null) return false;
    const entries = match[2].trim().split(/\s+/).map(BigInt);
    const level = COLUMNS - entries.length + 1;
    const leaf = entries[entries.length - 1];
    const size = 1n << BigInt(12 + 9 * (level - 1));
    const pa = leaf & 0xf_ffff_ffff_f000n & ~(size - 1n);
    const iova = BigInt(`0x${match[1]}`) << 12n;
    this.onPage?.({ table: section.table, iova, entries });
    const run = this.#run;
    if (
      run !== undefined &&
      iova === run.end &&
      level === run.level &&
      pa - run.pa === iova - run.iova &&
      sameRights(leaf, run.leaf)
    ) {
      run.end += size;
      run.raw[1] = line.text;
      return true;
    }
    this.#flush(section, emit);
    this.#run = { line: line.number, raw: [line.text], iova, pa, leaf, level, end: iova + size };
    return true;
  }

  #flush(section: Section, emit: Emit): void {
    if (this.#run !== undefined && section.kind === "pages") emit(pagesRecord(section, this.#run));
    this.#run = undefined;
  }

  end(emit: Emit): void {
    if (this.#section !== undefined) this.#flush(this.#section, emit);
    this.#section = undefined;
  }
}

function heading(text: string): Section | undefined {
  const queue = QUEUE.exec(text);
  if (queue !== null) return { kind: "queue", unit: queue[1], head: 0, tail: 0 };
  const interrupts = INTERRUPTS.exec(text);
  if (interrupts !== null) return { kind: "interrupts", unit: interrupts[2], posted: interrupts[1] === "Posted" };
  const pages = PAGES.exec(text);
  const device = pages === null ? undefined : canonicalBdf(pages[1]);
  if (pages === null || device === undefined) return undefined;
  const pasid = pages[2] === undefined ? undefined : Number.parseInt(pages[2], 16);
  return { kind: "pages", device, pasid, table: BigInt(`0x${pages[3]}`) & ~0xfffn };
}

function queueRow({ unit, head, tail }: Section & { kind: "queue" }, line: Line, emit: Emit): boolean {
  const match = QUEUE_ROW.exec(line.text);
  if (match === null) return false;
  const quads = match[2]
    .trim()
    .split(/\s+/)
    .map((digits) => BigInt(`0x${digits}`));
  if (quads[0] === 0n) return true;
  const type = Number((quads[0] & 15n) | ((quads[0] >> 5n) & 0x70n));
  if (!Object.hasOwn(DESCRIPTORS, type)) return false;
  const table = DESCRIPTORS[type as keyof typeof DESCRIPTORS];
  const index = Number(match[1]);
  const waiting = head <= tail ? index >= head && index < tail : index >= head || index < tail;
  const record = structure(line, table, wordsOf(quads), table.bits, []);
  emit({
    ...record,
    kind: "vtd.descriptor",
    summary: `${unit} queue[${index}]${waiting ? " (not yet fetched)" : ""}  ${record.summary}`,
  });
  return true;
}

function interruptRow({ unit, posted }: Section & { kind: "interrupts" }, line: Line, emit: Emit): boolean {
  const match = INTERRUPT_ROW.exec(line.text);
  const device = match === null ? undefined : canonicalBdf(match[2]);
  if (match === null || device === undefined) return false;
  const words = wordsOf([BigInt(`0x${match[4]}`), BigInt(`0x${match[3]}`)]);
  const table = posted ? POSTED_IRTE : IRTE;
  const record = structure(line, table, words, table.bits, []);
  const source =
    table.SID.get(words) === ridOf(device) ? [] : [`SrcID says ${device}, the entry ${hex(table.SID.get(words))}`];
  emit({
    ...record,
    kind: "vtd.interrupt-entry",
    summary: `${unit} interrupt[${match[1]}]  ${device}  ${record.summary}`,
    facts: { iommu: "vtd", device, sid: ridOf(device) },
    notes: [...record.notes, ...source],
  });
  return true;
}

/** R, W and the like; not accessed and dirty bits. */
function sameRights(a: bigint, b: bigint): boolean {
  return (a & 7n) === (b & 7n) && a >> 62n === b >> 62n;
}

/** A first stage's entries have U/S set, which no second stage's X is without ECAP.SSEE; the file does not say which it is. */
function pagesRecord({ device, pasid }: Section & { kind: "pages" }, run: Run): ExplainRecord {
  const words = wordsOf([run.leaf]);
  const first = pasid !== undefined && FIRST_STAGE_ENTRY.US.get(words) === 1;
  const table = first ? FIRST_STAGE_ENTRY : SECOND_STAGE_ENTRY;
  const rights = first
    ? `P${FIRST_STAGE_ENTRY.P.get(words) ? "+" : "-"} RW${FIRST_STAGE_ENTRY.RW.get(words) ? "+" : "-"}`
    : `R${SECOND_STAGE_ENTRY.R.get(words) ? "+" : "-"} W${SECOND_STAGE_ENTRY.W.get(words) ? "+" : "-"}`;
  const who = `${device}${pasid === undefined ? "" : ` PASID ${hex(pasid)}`}`;
  return {
    kind: "vtd.pages",
    line: run.line,
    raw: run.raw,
    summary: `VT-d pages  ${who}  ${hex(run.iova)}-${hex(run.end - 1n)} -> ${hex(run.pa)}  level ${run.level}  ${rights}`,
    facts: { iommu: "vtd", device, sid: ridOf(device), pasid },
    parts: [partOf(table, words)],
    notes: reservedNotes(table, words),
  };
}
