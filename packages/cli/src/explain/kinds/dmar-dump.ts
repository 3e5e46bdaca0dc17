/**
 * What Linux prints after a DMA fault since 5.16 when it is built to debug VT-d: "Dump dmar1 table entries for IOVA …", then each
 * entry on the way to the page. Highest word first; a PASID entry is eight lines.
 */
import {
  CONTEXT_ENTRY,
  FIRST_STAGE_ENTRY,
  PASID_DIRECTORY_ENTRY,
  PASID_ENTRY,
  ROOT_ENTRY,
  SECOND_STAGE_ENTRY,
  SM_CONTEXT_ENTRY,
  SM_ROOT_ENTRY,
} from "@iommukit/iommu-vtd";
import type { Emit, Line, Recogniser } from "../recogniser.js";
import { wordsOf } from "../record.js";
import { tableEntry } from "./table-entry.js";

const HEAD = /DMAR: Dump (dmar\d+) table entries for IOVA 0x[0-9a-f]+\s*$/i;
const PAIR = /DMAR: (scalable mode root|context) entry: hi 0x([0-9a-f]{1,16}), low 0x([0-9a-f]{1,16})\s*$/i;
const SINGLE = /DMAR: (root|pasid dir) entry: 0x([0-9a-f]{1,16})\s*$/i;
const PASID = /DMAR: pasid table entry\[([0-7])\]: 0x([0-9a-f]{1,16})\s*$/i;
const LEVEL = /DMAR: pte level: ([1-5]), pte value: 0x([0-9a-f]{1,16})\s*$/i;
const STOP =
  /DMAR: (?:PTE not present at level \d|(?:root table|context table|pasid directory|pasid table|page table)(?: entry)? is not present)\s*$/i;

interface Dump {
  readonly unit: string;
  scalable: boolean;
  /** The PASID entry says that its tables are a first stage's. */
  first: boolean;
  readonly pasid: bigint[];
  readonly raw: string[];
}

export class DmarDumpRecogniser implements Recogniser {
  #dump: Dump | undefined;

  take(line: Line, emit: Emit): boolean {
    const { text } = line;
    if (!text.includes("DMAR: ")) return false;
    const head = HEAD.exec(text);
    if (head !== null) {
      this.#dump = { unit: head[1], scalable: false, first: false, pasid: [], raw: [] };
      return true;
    }
    const dump = this.#dump;
    if (dump === undefined) return false;
    if (STOP.test(text)) {
      this.#dump = undefined;
      return true;
    }
    return entry(dump, line, emit) || pasidEntry(dump, line, emit);
  }
}

function quad(digits: string): bigint {
  return BigInt(`0x${digits}`);
}

function entry(dump: Dump, line: Line, emit: Emit): boolean {
  const pair = PAIR.exec(line.text);
  if (pair !== null) {
    const root = pair[1].toLowerCase() !== "context";
    dump.scalable ||= root;
    const table = root ? SM_ROOT_ENTRY : dump.scalable ? SM_CONTEXT_ENTRY : CONTEXT_ENTRY;
    emit(tableEntry(line, `${dump.unit} ${root ? "root" : "context"}`, table, [quad(pair[3]), quad(pair[2])]));
    return true;
  }
  const single = SINGLE.exec(line.text);
  if (single !== null) {
    const root = single[1].toLowerCase() === "root";
    const table = root ? ROOT_ENTRY : PASID_DIRECTORY_ENTRY;
    emit(tableEntry(line, `${dump.unit} ${root ? "root" : "PASID directory"}`, table, [quad(single[2])]));
    return true;
  }
  const level = LEVEL.exec(line.text);
  if (level === null) return false;
  const table = dump.first ? FIRST_STAGE_ENTRY : SECOND_STAGE_ENTRY;
  emit(tableEntry(line, `${dump.unit} level ${level[1]}`, table, [quad(level[2])]));
  return true;
}

function pasidEntry(dump: Dump, line: Line, emit: Emit): boolean {
  const match = PASID.exec(line.text);
  if (match === null || Number(match[1]) !== dump.pasid.length) return false;
  dump.pasid.push(quad(match[2]));
  dump.raw.push(line.text);
  if (dump.pasid.length < 8) return true;
  dump.first = PASID_ENTRY.PGTT.get(wordsOf(dump.pasid)) === 1;
  emit(tableEntry(line, `${dump.unit} PASID`, PASID_ENTRY, dump.pasid, dump.raw));
  return true;
}
