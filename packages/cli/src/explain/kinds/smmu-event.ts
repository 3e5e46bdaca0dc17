/**
 * SMMUv3 events as Linux and Xen print them: "event 0x10 received:" and one line for each word, anything in between; since
 * Linux 6.13 two decoded lines after them, which also appear alone. Lines belong together by the printing SMMU's name.
 */
import { EVENT, F_TRANSLATION } from "@iommukit/iommu-smmuv3";
import { canonicalBdf, hex } from "../hex.js";
import type { Emit, Line, Recogniser } from "../recogniser.js";
import { type ExplainRecord, type Facts, wordsOf } from "../record.js";
import { smmuEvent } from "./smmu-event-record.js";

const HEAD = /((?:arm-smmu-v3|SMMUv3:) \S+?):?\s+event 0x([0-9a-f]{2}) received:/i;
const WORD = /((?:arm-smmu-v3|SMMUv3:) \S+?):(?:\s|\\x09|'x09|#011)*0x([0-9a-f]{8}) ?([0-9a-f]{8})\s*$/i;
const DECODED =
  /((?:arm-smmu-v3|SMMUv3:) \S+?): event: ([A-Z_]+) client: (\(unassigned sid\)|\S+) sid: (0x[0-9a-f]{1,8}) ssid: (0x[0-9a-f]{1,5})\b(?: (iova|fetch_addr): (0x[0-9a-f]{1,16})\b)?/i;
const DETAIL = /((?:arm-smmu-v3|SMMUv3:) \S+?): (priv|unpriv) (inst|data) (read|write) (s1|s2) "([^"]+)"/i;
/** Lines after which a record goes out: without all of its words, and with them (the decoded lines may still come). */
const PATIENCE = { incomplete: 64, complete: 8 } as const;

interface Pending {
  readonly line: number;
  readonly code: number | undefined;
  readonly quads: bigint[];
  readonly raw: string[];
  client?: string;
  decoded?: RegExpExecArray;
  detail?: RegExpExecArray;
}

export class SmmuEventRecogniser implements Recogniser {
  readonly #pending = new Map<string, Pending>();

  take(line: Line, emit: Emit): boolean {
    const { text } = line;
    if (this.#pending.size > 0) this.#expire(line.number, emit);
    if (!/smmu/i.test(text)) return false;
    return this.#head(line, emit) || this.#word(line, emit) || this.#decoded(line, emit) || this.#detail(line, emit);
  }

  #head(line: Line, emit: Emit): boolean {
    const match = HEAD.exec(line.text);
    if (match === null) return false;
    this.#flush(match[1], emit);
    this.#pending.set(match[1], {
      line: line.number,
      code: Number.parseInt(match[2], 16),
      quads: [],
      raw: [line.text],
    });
    return true;
  }

  #word(line: Line, emit: Emit): boolean {
    const match = WORD.exec(line.text);
    const pending = match === null ? undefined : this.#pending.get(match[1]);
    if (match === null || pending === undefined || pending.decoded !== undefined) return false;
    if (pending.quads.length === 4) {
      this.#flush(match[1], emit);
      return false;
    }
    pending.quads.push(BigInt(`0x${match[2]}${match[3]}`));
    pending.raw.push(line.text);
    return true;
  }

  #decoded(line: Line, emit: Emit): boolean {
    const match = DECODED.exec(line.text);
    if (match === null || !Object.hasOwn(EVENT, match[2])) return false;
    const before = this.#pending.get(match[1]);
    if (
      before?.decoded !== undefined ||
      before?.quads.at(0) === undefined ||
      before.quads[0] >> 32n !== BigInt(match[4])
    )
      this.#flush(match[1], emit);
    const pending = this.#pending.get(match[1]) ?? { line: line.number, code: undefined, quads: [], raw: [] };
    pending.decoded = match;
    pending.client = canonicalBdf(match[3]);
    pending.raw.push(line.text);
    this.#pending.set(match[1], pending);
    return true;
  }

  #detail(line: Line, emit: Emit): boolean {
    const match = DETAIL.exec(line.text);
    const pending = match === null ? undefined : this.#pending.get(match[1]);
    if (match === null || pending?.decoded === undefined) return false;
    pending.detail = match;
    pending.raw.push(line.text);
    this.#flush(match[1], emit);
    return true;
  }

  #expire(now: number, emit: Emit): void {
    for (const [name, { line, quads }] of this.#pending) {
      if (now - line > PATIENCE[quads.length === 4 ? "complete" : "incomplete"]) this.#flush(name, emit);
    }
  }

  #flush(name: string, emit: Emit): void {
    const pending = this.#pending.get(name);
    if (pending === undefined) return;
    this.#pending.delete(name);
    const record = pending.quads.length > 0 ? fromWords(pending) : fromText(pending);
    if (record !== undefined) emit(record);
  }

  end(emit: Emit): void {
    for (const name of [...this.#pending.keys()]) this.#flush(name, emit);
  }
}

function fromWords({ line, raw, quads, client, code, decoded, detail }: Pending): ExplainRecord | undefined {
  const number = Number(quads[0] & 0xffn);
  const notes =
    code !== undefined && code !== number ? [`the header says event ${hex(code, 2)}, the words ${hex(number, 2)}`] : [];
  const record = smmuEvent({ line, raw, quads, client, notes });
  if (record === undefined || decoded === undefined) return record;
  const name = decoded[2] === record.facts.name ? [] : [`the decoded line calls it ${decoded[2]}`];
  return { ...record, notes: [...record.notes, ...name, ...classNotes(record, quads, detail?.[6])] };
}

/** Linux's words for the Class field. */
const CLASSES: Readonly<Record<string, string>> = {
  CD: "CD fetch",
  TT: "Stage 1 translation table fetch",
  IN: "Input address caused fault",
};

function classNotes({ facts }: ExplainRecord, quads: readonly bigint[], said: string | undefined): string[] {
  if (said === undefined || facts.stage === undefined || quads.length < 2) return [];
  const name = F_TRANSLATION.Class.decode(wordsOf([...quads, 0n, 0n].slice(0, 4)));
  return CLASSES[String(name)] === said ? [] : [`the decoded line says "${said}", the words' Class is ${name}`];
}

/** The decoded lines without the words before them: no bits, so no fields. */
function fromText({ line, raw, client, decoded, detail }: Pending): ExplainRecord | undefined {
  if (decoded === undefined) return undefined;
  const name = decoded[2] as keyof typeof EVENT;
  const ssid = Number(decoded[5]);
  const address = decoded[7] === undefined ? undefined : BigInt(decoded[7]);
  const access = detail === undefined ? undefined : detail[3] === "inst" ? "execute" : (detail[4] as "read" | "write");
  const facts: Facts = {
    iommu: "smmuv3",
    code: EVENT[name],
    name,
    device: client,
    sid: Number(decoded[4]),
    pasid: ssid === 0 ? undefined : ssid,
    address,
    access,
    privileged: detail === undefined ? undefined : detail[2] === "priv",
    stage: detail === undefined ? undefined : detail[5] === "s2" ? 2 : 1,
    permission: name === "F_PERMISSION" || name === "F_ACCESS" ? true : name === "F_TRANSLATION" ? false : undefined,
  };
  const who = `StreamID ${hex(facts.sid ?? 0)}${client === undefined ? "" : ` (${client})`}${ssid === 0 ? "" : ` SubstreamID ${hex(ssid)}`}`;
  return {
    kind: "smmuv3.event",
    line,
    raw,
    summary: `SMMUv3 event ${hex(EVENT[name], 2)} ${name}  ${who}${address === undefined ? "" : `  ${access ?? "address"} ${hex(address)}`}${facts.stage === undefined ? "" : `  stage ${facts.stage}`}`,
    facts,
    parts: [],
    notes: ["decoded line without the event's words: ssid 0x0 can be SubstreamID 0 or none, the words would tell"],
  };
}
