/**
 * Bare hex words: `--as` says the table, or a label before them ("STE: 0x… 0x…"), or nothing. Without a name only queue records
 * are tried, whose type field and reserved bits can be checked; if several fit, all are named and none is chosen.
 */
import type { AnyLayout } from "@iommukit/core";
import { COMMANDS, EVENTS, PRIQ_ENTRY } from "@iommukit/iommu-smmuv3";
import { DESCRIPTORS, FRCD, faultReason, PAGE_REQUEST_DESCRIPTOR } from "@iommukit/iommu-vtd";
import { bdfOf, hex } from "../hex.js";
import type { Emit, Line, Recogniser } from "../recogniser.js";
import { type ExplainRecord, partOf, quad, reservedNotes, wordsOf } from "../record.js";
import { type NamedTable, tableNamed } from "../tables.js";
import { smmuEvent } from "./smmu-event-record.js";
import { vtdFault } from "./vtd-fault-record.js";

const WORDS =
  /^\s*(?:([A-Za-z][\w. -]*?)\s*[:=]\s*)?((?:(?:0x)?[0-9a-f]{1,16}[\s,:]+)*(?:0x)?[0-9a-f]{1,16})\s*,?\s*$/i;

export class WordsRecogniser implements Recogniser {
  constructor(private readonly as: NamedTable | undefined) {}

  take(line: Line, emit: Emit): boolean {
    const match = WORDS.exec(line.text);
    if (match === null) return false;
    const named = this.as ?? (match[1] === undefined ? undefined : tableNamed(match[1]));
    if (match[1] !== undefined && tableNamed(match[1]) === undefined) return false;
    const tokens = match[2].split(/[\s,:]+/);
    if (named === undefined && !tokens.every((token) => /^0x/i.test(token) || token.length === 16)) return false;
    const quads = quadsOf(tokens, named?.table.bits ?? 64);
    if (quads === undefined) return false;
    if (named !== undefined) return decodeAs(line, named.table, quads, emit);
    return recognise(line, quads, emit);
  }
}

/** Tokens of up to 8 digits are 32-bit words when all are, the first one lowest; a 32-bit register is one of them. */
function quadsOf(tokens: readonly string[], bits: number): bigint[] | undefined {
  const digits = tokens.map((token) => token.replace(/^0x/i, ""));
  const values = digits.map((text) => BigInt(`0x${text}`));
  const narrow =
    digits.every((text) => text.length <= 8) && values.length * 64 > Math.max(bits, 64) && values.length % 2 === 0;
  if (!narrow) return values;
  return Array.from({ length: values.length / 2 }, (_, n) => values[2 * n] | (values[2 * n + 1] << 32n));
}

/** A commands' or events' table is found by its type field, whatever `as` says of the head. */
function decodeAs(line: Line, table: AnyLayout, quads: readonly bigint[], emit: Emit): boolean {
  const needed = Math.ceil(table.bits / 64);
  if (quads.length > needed && !quads.slice(needed).every((value) => value === 0n)) return false;
  const words = wordsOf([...quads, ...Array.from({ length: needed }, () => 0n)].slice(0, needed));
  const short =
    quads.length < needed
      ? [`${quads.length} of ${needed} words are in the input; fields of the others are left out`]
      : [];
  emit(structure(line, table, words, Math.min(quads.length * 64, table.bits), short));
  return true;
}

function recognise(line: Line, quads: readonly bigint[], emit: Emit): boolean {
  if (quads.length < 2) return false;
  const words = wordsOf(quads);
  const fits = candidates(quads, words);
  if (fits.length === 0) return false;
  if (fits.length === 1) emit(fits[0].make(line));
  else {
    emit({
      kind: "words",
      line: line.number,
      raw: [line.text],
      summary: `${quads.length} words  could be ${fits.map(({ table }) => table.name).join(" or ")}: say which with --as`,
      facts: {},
      parts: [],
      notes: [],
    });
  }
  return true;
}

interface Candidate {
  readonly table: AnyLayout;
  make(line: Line): ExplainRecord;
}

function candidates(quads: readonly bigint[], words: Int32Array): Candidate[] {
  const type = words[0] & 0xff;
  const found: Candidate[] = [];
  const add = (table: AnyLayout | undefined, when: boolean, make?: (line: Line) => ExplainRecord | undefined) => {
    if (table === undefined || !when || table.bits !== quads.length * 64 || reservedNotes(table, words).length > 0)
      return;
    found.push({ table, make: (line) => make?.(line) ?? structure(line, table, words, table.bits, []) });
  };
  add(EVENTS.get(type), true, (line) => smmuEvent({ line: line.number, raw: [line.text], quads }));
  add(PAGE_REQUEST_DESCRIPTOR, type === 1 && quads[2] === 0n && quads[3] === 0n);
  add(FRCD, FRCD.F.get(words) === 1 && faultReason(FRCD.FR.get(words)) !== undefined, (line) => frcd(line, words));
  add(COMMANDS.get(type), type !== 0);
  add(descriptor(words), quads[0] !== 0n);
  add(
    PRIQ_ENTRY,
    quads.length === 2 && FRCD.F.get(words) === 0 && quads[1] >> 12n !== 0n && PRIQ_ENTRY.Last.get(words) === 1,
  );
  return found;
}

function descriptor(words: Int32Array): AnyLayout | undefined {
  const type = (words[0] & 15) | ((words[0] >>> 5) & 0x70);
  return Object.hasOwn(DESCRIPTORS, type) ? DESCRIPTORS[type as keyof typeof DESCRIPTORS] : undefined;
}

function frcd(line: Line, words: Int32Array): ExplainRecord {
  const read = FRCD.T1.get(words) === 1;
  const code = FRCD.FR.get(words);
  const interrupt = code >= 0x20 && code < 0x30;
  const record = vtdFault({
    line: line.number,
    raw: [line.text],
    device: bdfOf(FRCD.SID.get(words)),
    access: FRCD.T2.get(words) === 1 && read ? "atomic" : read ? "read" : "write",
    pasid: FRCD.PP.get(words) === 1 ? FRCD.PV.get(words) : undefined,
    address: interrupt ? undefined : FRCD.FI.getBig(words),
    index: interrupt ? Number(FRCD.FI.getBig(words) >> 48n) : undefined,
    code,
    text: "",
  });
  const withPasid = FRCD.PP.get(words) === 1;
  const facts = {
    ...record.facts,
    access: withPasid && FRCD.EXE.get(words) === 1 ? ("execute" as const) : record.facts.access,
    privileged: withPasid ? FRCD.PRIV.get(words) === 1 : undefined,
  };
  return { ...record, facts, parts: [partOf(FRCD, words)] };
}

/** Any structure by its table: the fields that are not zero, in the spec's names, on one line. */
export function structure(
  line: Line,
  table: AnyLayout,
  words: Int32Array,
  present: number,
  notes: readonly string[],
): ExplainRecord {
  const value = table.bits <= 32 ? hex(words[0] >>> 0, Math.ceil(table.bits / 4)) : undefined;
  const shown = table.fields.filter(
    (field) => field.spec.kind !== "reserved" && field.msb < present && field.getBig(words) !== 0n,
  );
  const texts = shown.map((field) => {
    if (field.spec.kind === "bit") return `${field.name}+`;
    const named = field.spec.kind === "oneOf" ? field.nameOf(field.get(words)) : undefined;
    return `${field.name}=${named ?? hex(field.getBig(words))}`;
  });
  const head =
    value ??
    Array.from({ length: Math.min(table.words, present / 32) / 2 }, (_, n) => hex(quad(words, 2 * n), 16)).join(" ");
  return {
    kind: "structure",
    line: line.number,
    raw: [line.text],
    summary: `${table.name} = ${head}  ${texts.join(" ") || "all zero"}`,
    facts: {},
    parts: [partOf(table, words, 0, present)],
    notes: [...notes, ...reservedNotes(table, words)],
  };
}
