/** Xen's messages: VT-d faults on two lines (codes in hex), the walk that it prints after them, AMD-Vi faults, AMD's walk. */
import { CONTEXT_ENTRY, ROOT_ENTRY, SECOND_STAGE_ENTRY } from "@iommukit/iommu-vtd";
import { bdfOf, canonicalBdf } from "../hex.js";
import type { Emit, Line, Recogniser } from "../recogniser.js";
import type { ExplainRecord } from "../record.js";
import { amdEvent, amdEventOfWords } from "./amd-event-record.js";
import { amdFault } from "./amd-fault-record.js";
import { tableEntry } from "./table-entry.js";
import { type VtdFault, vtdFault } from "./vtd-fault-record.js";

const FAULT =
  /\[VT-D\]\s?(?:[a-z]+\.c:\d+:\s*)?(?:DMAR:\s?\[(DMA Read|DMA Write)\]|(INTR-REMAP):) ?Request device \[([0-9a-f:.]+)\] fault (addr|index) (?:0x)?([0-9a-f]{1,16})\b/i;
const REASON =
  /(?:\[VT-D\]\s?(?:[a-z]+\.c:\d+:\s*)?)?(?:DMAR|INTR-REMAP):\s?(?:reason |\[fault reason )([0-9a-f]{1,2})(?: -|h\]) (.*)$/i;
const AMD =
  /AMD-Vi: ([A-Z_]+): ([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) d\S+ addr ([0-9a-f]{1,16}) flags 0x([0-9a-f]{1,4})\b(.*)$/i;
/** Older forms: named values, and the four words of the event. */
const OLD_AMD =
  /AMD-Vi: ([A-Z_]+): domain = \d+, device id = 0x([0-9a-f]{1,4}), fault address = 0x([0-9a-f]{1,16})(?:, flags = 0x([0-9a-f]{1,3}))?\s*$/i;
const AMD_WORDS = /AMD-Vi: [A-Z_]+:? ([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8})\s*$/i;
const ROOT = /\broot_entry\[([0-9a-f]{2})\] = ([0-9a-f]{1,16})\s*$/i;
const CONTEXT = /\bcontext\[([0-9a-f]{2})\] = ([0-9a-f]{1,16})_([0-9a-f]{1,16})\s*$/i;
const LEVEL = /\(XEN\)\s+l([1-5])\[([0-9a-f]{3})\] = ([0-9a-f]{1,16})(?: [r-][w-])?\s*$/i;

export class XenRecogniser implements Recogniser {
  #waiting: Omit<VtdFault, "code" | "text"> | undefined;

  take(line: Line, emit: Emit): boolean {
    const { text } = line;
    if (!text.includes("(XEN)")) return false;
    return (
      this.#vtd(line, emit) || this.#reason(line, emit) || amd(line, emit) || olderAmd(line, emit) || walk(line, emit)
    );
  }

  #vtd(line: Line, emit: Emit): boolean {
    const match = FAULT.exec(line.text);
    const device = match === null ? undefined : canonicalBdf(match[3]);
    if (match === null || device === undefined) return false;
    const [, type, , , what, digits] = match;
    const value = BigInt(`0x${digits}`);
    if (what === "index" && value > 0xffffn) return false;
    this.end(emit);
    this.#waiting = {
      line: line.number,
      raw: [line.text],
      device,
      access: type === undefined ? undefined : type.endsWith("Read") ? "read" : "write",
      pasid: undefined,
      address: what === "addr" ? value : undefined,
      index: what === "index" ? Number(value) : undefined,
    };
    return true;
  }

  #reason(line: Line, emit: Emit): boolean {
    const match = REASON.exec(line.text);
    if (match === null || this.#waiting === undefined) return false;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    emit(
      vtdFault({ ...waiting, raw: [...waiting.raw, line.text], code: Number.parseInt(match[1], 16), text: match[2] }),
    );
    return true;
  }

  end(emit: Emit): void {
    if (this.#waiting !== undefined) emit(vtdFault({ ...this.#waiting, code: undefined, text: "" }));
    this.#waiting = undefined;
  }
}

function amd(line: Line, emit: Emit): boolean {
  const match = AMD.exec(line.text);
  if (match === null) return false;
  const [, event, bdf, address, flags] = match;
  const record = amdFault(line, {
    event,
    device: canonicalBdf(bdf),
    address: BigInt(`0x${address}`),
    flags: Number.parseInt(flags, 16),
  });
  if (record !== undefined) emit(record);
  return record !== undefined;
}

function olderAmd(line: Line, emit: Emit): boolean {
  const words = AMD_WORDS.exec(line.text);
  const record = words === null ? namedAmd(line) : amdEventOfWords(line, words.slice(1));
  if (record !== undefined) emit(record);
  return record !== undefined;
}

function namedAmd(line: Line): ExplainRecord | undefined {
  const match = OLD_AMD.exec(line.text);
  if (match === null) return undefined;
  const [, event, rid, address, flags] = match;
  return amdEvent(line, {
    event,
    device: bdfOf(Number.parseInt(rid, 16)),
    address: BigInt(`0x${address}`),
    flags: flags === undefined ? undefined : Number.parseInt(flags, 16),
  });
}

/** `root_entry[00] = …`, `context[10] = hi_lo`, `l4[000] = …`: each is one table entry. */
function walk(line: Line, emit: Emit): boolean {
  const root = ROOT.exec(line.text);
  if (root !== null)
    return walked(emit, tableEntry(line, `root[${root[1]}]`, ROOT_ENTRY, [BigInt(`0x${root[2]}`), 0n]));
  const context = CONTEXT.exec(line.text);
  if (context !== null) {
    const quads = [BigInt(`0x${context[3]}`), BigInt(`0x${context[2]}`)];
    return walked(emit, tableEntry(line, `context[${context[1]}]`, CONTEXT_ENTRY, quads));
  }
  const level = LEVEL.exec(line.text);
  if (level === null) return false;
  return walked(emit, tableEntry(line, `L${level[1]}[${level[2]}]`, SECOND_STAGE_ENTRY, [BigInt(`0x${level[3]}`)]));
}

function walked(emit: Emit, record: ExplainRecord): boolean {
  emit(record);
  return true;
}
