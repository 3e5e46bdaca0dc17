/**
 * Linux's debugfs file dmar_translation_struct: root, context and PASID entries of each device, highest word first. Long rows
 * may be broken as mail clients break them.
 */
import { CONTEXT_ENTRY, PASID_ENTRY, ROOT_ENTRY, SM_CONTEXT_ENTRY, SM_ROOT_ENTRY } from "@iommukit/iommu-vtd";
import { canonicalBdf, hex } from "../hex.js";
import type { Emit, Line, Recogniser } from "../recogniser.js";
import { type ExplainRecord, partOf, quad, reservedNotes, wordsOf } from "../record.js";

const HEAD = /^\s*IOMMU (dmar\d+): Root Table Address: ?(?:0x)?([0-9a-f]+)/i;
const COLUMNS = /^\s*(?:B\.D\.F\s+Root_entry\b.*|PASID\s+PASID_table_entry)\s*$/;
/** Headings between the parts of one row, where the file is shown in columns one below the other. */
const PART = /^\s*(?:Context_entry|PASID\s+PASID_table_entry)\s*$/;
/** The file of Linux 4.20 and 5.0: each bus, then the context entries below it. */
const BUS = /^\s*Bus: \d{1,3} H: ([0-9a-f]{1,16}) L: ([0-9a-f]{1,16})\s*$/i;
const BELOW_BUS = /^\s*\d{1,3}\s+([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])\s+([0-9a-f]{1,16})\s+([0-9a-f]{1,16})\s*$/i;
const ROW = /^\s*([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])((?:\s+0x[0-9a-f]{16}:0x[0-9a-f]{16})+)(.*)$/i;
const PAIR = /^\s*0x([0-9a-f]{16}):0x([0-9a-f]{16})\b(?!:)(.*)$/i;
const PASID = /^\s*(-?\d+)\s+0x([0-9a-f]{16}):0x([0-9a-f]{16}):0x([0-9a-f]{16})\s*$/i;
const NUMBER = /^\s*(-?\d+)\s*$/;
const TRIPLE = /^\s*0x([0-9a-f]{16}):0x([0-9a-f]{16}):0x([0-9a-f]{16})\s*$/i;

interface Row {
  readonly line: number;
  readonly raw: string[];
  readonly device: string;
  /** Root entry, then context entry: high word, low word. */
  readonly pairs: [bigint, bigint][];
  pasid?: number;
  entry?: [bigint, bigint, bigint];
}

/** A complete row, for those who want the tables themselves. */
export interface TableRow {
  /** The unit's root table. */
  readonly root: bigint;
  readonly scalable: boolean;
  readonly device: string;
  readonly pairs: readonly [bigint, bigint][];
  readonly pasid: number | undefined;
  /** Of the PASID entry the words that are printed, lowest first. */
  readonly entry: readonly bigint[] | undefined;
}

export class DmarTablesRecogniser implements Recogniser {
  #row: Row | undefined;
  #scalable = false;
  #root = 0n;
  /** The root entry that BUS gave. */
  #bus: [bigint, bigint] | undefined;

  constructor(private readonly onRow?: (row: TableRow) => void) {}

  take(line: Line, emit: Emit): boolean {
    if (this.#row !== undefined && this.#row.entry === undefined && PART.test(line.text)) {
      this.#scalable ||= line.text.includes("PASID");
      return true;
    }
    const head = HEAD.exec(line.text);
    if (head !== null || COLUMNS.test(line.text)) {
      this.end(emit);
      if (head !== null) {
        this.#scalable = false;
        this.#bus = undefined;
        this.#root = BigInt(`0x${head[2]}`);
        emit(rootRecord(line, head));
      } else this.#scalable ||= line.text.includes("PASID");
      return true;
    }
    const row = ROW.exec(line.text);
    if (row === null && this.#belowBus(line, emit)) return true;
    if (row === null) return this.#more(line, line.text, emit);
    const device = canonicalBdf(row[1]);
    if (device === undefined) return false;
    this.end(emit);
    const pairs = [...row[2].matchAll(/0x([0-9a-f]{16}):0x([0-9a-f]{16})/gi)].map(pairOf);
    this.#row = { line: line.number, raw: [line.text], device, pairs };
    if (row[3].trim() !== "") this.#rest(row[3], emit);
    return true;
  }

  #belowBus(line: Line, emit: Emit): boolean {
    const bus = BUS.exec(line.text);
    if (bus !== null) {
      this.end(emit);
      this.#bus = pairOf(bus);
      return true;
    }
    const match = this.#bus === undefined ? null : BELOW_BUS.exec(line.text);
    const device = match === null ? undefined : canonicalBdf(match[1]);
    if (match === null || this.#bus === undefined || device === undefined) return false;
    this.end(emit);
    const context: [bigint, bigint] = [BigInt(`0x${match[2]}`), BigInt(`0x${match[3]}`)];
    this.#row = { line: line.number, raw: [line.text], device, pairs: [this.#bus, context] };
    this.end(emit);
    return true;
  }

  /** A line that goes on with the row before it. */
  #more(line: Line, text: string, emit: Emit): boolean {
    const row = this.#row;
    if (row === undefined) return false;
    const pair = PAIR.exec(text);
    if (pair !== null && row.pairs.length < 2) {
      row.raw.push(line.text);
      row.pairs.push(pairOf(pair));
      if (pair[3].trim() !== "") this.#rest(pair[3], emit);
      return true;
    }
    if (PASID.test(text) || NUMBER.test(text) || TRIPLE.test(text)) {
      row.raw.push(line.text);
      this.#rest(text, emit);
      return true;
    }
    this.end(emit);
    return false;
  }

  #rest(text: string, emit: Emit): void {
    const row = this.#row;
    if (row === undefined) return;
    const whole = PASID.exec(text);
    const triple = TRIPLE.exec(text);
    if (whole !== null) {
      row.pasid = Number(whole[1]);
      row.entry = [BigInt(`0x${whole[2]}`), BigInt(`0x${whole[3]}`), BigInt(`0x${whole[4]}`)];
    } else if (triple !== null && row.pasid !== undefined) {
      row.entry = [BigInt(`0x${triple[1]}`), BigInt(`0x${triple[2]}`), BigInt(`0x${triple[3]}`)];
    } else if (NUMBER.test(text)) row.pasid = Number(text);
    if (row.entry !== undefined) this.end(emit);
  }

  end(emit: Emit): void {
    const row = this.#row;
    this.#row = undefined;
    if (row === undefined || row.pairs.length !== 2) return;
    const { device, pairs, pasid, entry } = row;
    const scalable = isScalable(row, this.#scalable);
    this.onRow?.({
      root: this.#root,
      scalable,
      device,
      pairs,
      pasid,
      entry: scalable && entry !== undefined ? quadsOf(entry) : undefined,
    });
    emit(rowRecord(row, scalable));
  }
}

function pairOf(match: RegExpMatchArray): [bigint, bigint] {
  return [BigInt(`0x${match[1]}`), BigInt(`0x${match[2]}`)];
}

function rootRecord(line: Line, [, unit, address]: RegExpExecArray): ExplainRecord {
  return {
    kind: "vtd.root-table",
    line: line.number,
    raw: [line.text],
    summary: `VT-d ${unit}  root table at ${hex(BigInt(`0x${address}`))}`,
    facts: { iommu: "vtd", address: undefined },
    parts: [],
    notes: [],
  };
}

/** PASID -1 marks a legacy-mode row in files that have the column. */
function isScalable({ pasid, entry }: Row, columns: boolean): boolean {
  return columns && pasid !== -1 && entry !== undefined;
}

function quadsOf(entry: readonly bigint[]): bigint[] {
  const [words] = pasidEntry(entry);
  return [quad(words, 0), quad(words, 2), quad(words, 4)];
}

function rowRecord({ line, raw, device, pairs, pasid, entry }: Row, scalable: boolean): ExplainRecord {
  const [root, context] = pairs.map(([high, low]) => wordsOf([low, high, 0n, 0n]));
  const rootTable = scalable ? SM_ROOT_ENTRY : ROOT_ENTRY;
  const contextTable = scalable ? SM_CONTEXT_ENTRY : CONTEXT_ENTRY;
  const [pasidWords, orderNotes] = entry === undefined ? [undefined, []] : pasidEntry(entry);
  const parts = [partOf(rootTable, root), partOf(contextTable, context, 0, 128)];
  if (scalable && pasidWords !== undefined) parts.push(partOf(PASID_ENTRY, pasidWords, 0, 192));
  return {
    kind: "vtd.tables",
    line,
    raw,
    summary: `VT-d tables  ${device}  ${scalable && pasidWords !== undefined ? pasidText(pasid ?? 0, pasidWords) : contextText(context)}`,
    facts: { iommu: "vtd", device, pasid: scalable ? pasid : undefined },
    parts,
    notes: [...orderNotes, ...reservedNotes(rootTable, root), ...reservedNotes(contextTable, context)],
  };
}

/** The first form of the file had the lowest word first; later ones have it last. P and PGTT tell which it is. */
function pasidEntry(entry: readonly bigint[]): [Int32Array, string[]] {
  const [first, last] = [[...entry], [...entry].reverse()].map((quads) => wordsOf([...quads, 0n, 0n, 0n, 0n, 0n]));
  const fits = (words: Int32Array) =>
    PASID_ENTRY.P.get(words) === 1 && typeof PASID_ENTRY.PGTT.decode(words) === "string";
  return !fits(last) && fits(first)
    ? [first, ["the PASID entry's words stand lowest first, as in the first form of this file"]]
    : [last, []];
}

function contextText(words: Int32Array): string {
  if (CONTEXT_ENTRY.P.get(words) === 0) return "legacy mode, context entry not present";
  return `legacy mode, ${CONTEXT_ENTRY.TT.decode(words)}, domain-id ${hex(CONTEXT_ENTRY.DID.get(words))}, AW ${CONTEXT_ENTRY.AW.decode(words)} bits, second stage at ${hex(CONTEXT_ENTRY.SSPTPTR.getBig(words))}`;
}

function pasidText(pasid: number, words: Int32Array): string {
  if (PASID_ENTRY.P.get(words) === 0) return `PASID ${hex(pasid)}, entry not present`;
  const first = PASID_ENTRY.PGTT.get(words) === 1;
  const at = first ? PASID_ENTRY.FSPTPTR.getBig(words) : PASID_ENTRY.SSPTPTR.getBig(words);
  return `PASID ${hex(pasid)}, ${PASID_ENTRY.PGTT.decode(words)}, domain-id ${hex(PASID_ENTRY.DID.get(words))}, tables at ${hex(at)}`;
}
