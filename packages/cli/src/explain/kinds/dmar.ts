/**
 * Linux's messages about VT-d faults. Forms: one line since 4.x with the PASID since 5.13 (`NO_PASID`, `PASID 0x2`), with
 * `PASID ffffffff` between, two lines (`DMAR:[fault reason 06]`) before 4.13; interrupts likewise. Codes without 0x are decimal.
 */
import { FSTS, faultReason } from "@iommukit/iommu-vtd";
import { canonicalBdf, hex, parseHex } from "../hex.js";
import type { Emit, Line, Recogniser } from "../recogniser.js";
import { partOf } from "../record.js";
import { type VtdFault, vtdFault } from "./vtd-fault-record.js";

const FAULT =
  /DMAR:\s?(?:INTR-REMAP: ?|\[(DMA Read|DMA Write|DMA Atomic|INTR-REMAP)(?: (NO_PASID|PASID (?:0x)?[0-9a-f]+))?\] )Request device \[+([0-9a-fx:.]+)\]? ?(?:PASID ([0-9a-f]+) )?fault (addr|index) (?:0x)?([0-9a-f]{1,16})\b\s*(.*)$/i;
const OLD_INTERRUPT = /INTR-REMAP: Request device \[+([0-9a-f:.]+)\] fault (index) ([0-9a-f]{1,8})\b\s*$/i;
const REASON = /\[fault reason (0x)?([0-9a-f]{1,3})\]\s*(.*)$/i;
const STATUS = /DRHD: handling fault status reg ([0-9a-f]{1,8})\s*$/i;

/** What a fault record has room for: a line with more was not printed from one. */
const FRCD_MAX = { code: 0xff, pasid: 0xf_ffffn, index: 0xffffn } as const;

export class DmarRecogniser implements Recogniser {
  #waiting: Omit<VtdFault, "code" | "text"> | undefined;

  take(line: Line, emit: Emit): boolean {
    const { text } = line;
    if (!text.includes("DMAR") && !text.includes("DRHD") && !text.includes("INTR-REMAP")) return false;
    if (text.includes("(XEN)")) return false;
    const match = FAULT.exec(text) ?? reorder(OLD_INTERRUPT.exec(text));
    if (match !== null) return this.#fault(line, match, emit);
    const reason = REASON.exec(text);
    if (reason !== null && this.#waiting !== undefined && codeOf(reason).code <= FRCD_MAX.code) {
      const waiting = this.#waiting;
      this.#waiting = undefined;
      emit(vtdFault({ ...waiting, raw: [...waiting.raw, text], ...codeOf(reason) }));
      return true;
    }
    const status = STATUS.exec(text);
    if (status === null) return false;
    emit(statusRecord(line, Number.parseInt(status[1], 16)));
    return true;
  }

  #fault(line: Line, match: RegExpExecArray, emit: Emit): boolean {
    const [, type = "INTR-REMAP", inline, bdf, older, what, value, rest] = match;
    const device = canonicalBdf(bdf);
    if (device === undefined) return false;
    const number = BigInt(`0x${value}`);
    const pasidText = inline === undefined ? older : /PASID (?:0x)?([0-9a-f]+)/i.exec(inline)?.[1];
    const pasid =
      pasidText === undefined || /^f{8}$/i.test(pasidText) || inline === "NO_PASID" ? undefined : parseHex(pasidText);
    const reason = REASON.exec(rest);
    if (pasid !== undefined && pasid > FRCD_MAX.pasid) return false;
    if ((what === "index" && number > FRCD_MAX.index) || (reason !== null && codeOf(reason).code > FRCD_MAX.code))
      return false;
    this.end(emit);
    const fault = {
      line: line.number,
      raw: [line.text],
      device,
      access: ({ "DMA Read": "read", "DMA Write": "write", "DMA Atomic": "atomic" } as const)[type],
      pasid: pasid === undefined ? undefined : Number(pasid),
      address: what === "addr" ? number : undefined,
      index: what === "index" ? Number(number) : undefined,
    };
    if (reason === null) this.#waiting = fault;
    else emit(vtdFault({ ...fault, ...codeOf(reason) }));
    return true;
  }

  end(emit: Emit): void {
    if (this.#waiting !== undefined) emit(vtdFault({ ...this.#waiting, code: undefined, text: "" }));
    this.#waiting = undefined;
  }
}

/** The groups of the two-line interrupt form in the places of FAULT's. */
function reorder(match: RegExpExecArray | null): RegExpExecArray | null {
  if (match === null) return null;
  const [all, bdf, what, value] = match;
  return Object.assign([all, "INTR-REMAP", undefined, bdf, undefined, what, value, ""], {
    index: match.index,
    input: match.input,
  }) as unknown as RegExpExecArray;
}

/** Without 0x the code is decimal (`%02d`); the text decides when it fits only the other reading. */
function codeOf([, prefix, digits, text]: RegExpExecArray): { code: number; text: string; notes?: string[] } {
  const asHex = Number.parseInt(digits, 16);
  if (prefix !== undefined || !/^\d+$/.test(digits)) return { code: asHex, text };
  const decimal = Number.parseInt(digits, 10);
  if (decimal === asHex) return { code: decimal, text };
  const fits = (code: number) => faultReason(code)?.meaning.toLowerCase() === text.trim().toLowerCase();
  if (fits(asHex) && !fits(decimal)) return { code: asHex, text };
  return {
    code: decimal,
    text,
    notes: [`[fault reason ${digits}] is decimal in this form of the line: ${hex(decimal, 2)}`],
  };
}

function statusRecord(line: Line, value: number) {
  const words = Int32Array.of(value);
  const flags = FSTS.fields
    .filter((field) => field.spec.kind === "bit" && field.get(words) === 1)
    .map(({ name }) => `${name}+`);
  return {
    kind: "vtd.fault-status",
    line: line.number,
    raw: [line.text],
    summary: `VT-d FSTS = ${hex(value)}  ${[...flags, `FRI=${FSTS.FRI.get(words)}`].join(" ")}`,
    facts: { iommu: "vtd" } as const,
    parts: [partOf(FSTS, words)],
    notes: FSTS.PFO.get(words) === 1 ? ["PFO: the recording registers overflowed; faults after these were lost"] : [],
  };
}
