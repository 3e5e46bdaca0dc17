/** One SMMUv3 event record from its words: facts for the rules, one line, the fields. */
import { EVENT, EVENTS, F_TRANSLATION } from "@iommukit/iommu-smmuv3";
import { hex } from "../hex.js";
import { type ExplainRecord, type Facts, partOf, reservedNotes, wordsOf } from "../record.js";

const PERMISSION_FAULTS: readonly number[] = [EVENT.F_PERMISSION, EVENT.F_ACCESS];

export interface SmmuEvent {
  readonly line: number;
  readonly raw: readonly string[];
  /** Up to four 64-bit words. */
  readonly quads: readonly bigint[];
  /** What Linux's decoded lines say of the device. */
  readonly client?: string;
  readonly notes?: readonly string[];
}

/** Undefined when the first word has no event number of the specification. */
export function smmuEvent({ line, raw, quads, client, notes = [] }: SmmuEvent): ExplainRecord | undefined {
  const words = wordsOf([...quads, 0n, 0n, 0n].slice(0, 4));
  const code = words[0] & 0xff;
  const table = EVENTS.get(code);
  if (table === undefined || quads.length === 0) return undefined;
  const present = quads.length * 64;
  const value = (name: string): bigint | undefined => {
    const field = table.fields.find((candidate) => candidate.name === name);
    return field === undefined || field.msb >= present ? undefined : field.getBig(words);
  };
  const flag = (name: string) => value(name) === 1n;
  const address = value("InputAddr") ?? value("FetchAddr");
  const hasAccess = value("RnW") !== undefined;
  const withPasid = flag("SSV") || code === EVENT.C_BAD_SUBSTREAMID;
  const access = !hasAccess ? undefined : flag("InD") ? "execute" : flag("RnW") ? "read" : "write";
  const facts: Facts = {
    iommu: "smmuv3",
    code,
    name: table.name,
    device: client,
    sid: Number(value("StreamID") ?? 0n),
    pasid: withPasid ? Number(value("SubstreamID") ?? 0n) : undefined,
    address,
    access,
    privileged: hasAccess ? flag("PnU") : undefined,
    stage: value("S2") === undefined ? undefined : flag("S2") ? 2 : 1,
    permission: PERMISSION_FAULTS.includes(code) ? true : code === EVENT.F_TRANSLATION ? false : undefined,
  };
  const who = `StreamID ${hex(facts.sid ?? 0)}${client === undefined ? "" : ` (${client})`}${facts.pasid === undefined ? "" : ` SubstreamID ${hex(facts.pasid)}`}`;
  const where = address === undefined ? "" : `  ${access ?? "address"} ${hex(address)}`;
  const stage =
    facts.stage === undefined
      ? ""
      : `  stage ${facts.stage}${className(words, code)}${flag("Stall") ? ", stalled" : ""}`;
  const short =
    quads.length < 4 ? [`${quads.length} of 4 words are in the input; fields of the others are left out`] : [];
  return {
    kind: "smmuv3.event",
    line,
    raw,
    summary: `SMMUv3 event ${hex(code, 2)} ${table.name}  ${who}${where}${stage}  ${table.summary}`,
    facts,
    parts: [partOf(table, words, 0, present)],
    notes: [...short, ...notes, ...reservedNotes(table, words)],
  };
}

/** Which access failed, for the events that say it. */
function className(words: Int32Array, code: number): string {
  if (code < EVENT.F_TRANSLATION || code > EVENT.F_PERMISSION) return "";
  return (
    { CD: " fetching a CD", TT: " walking a table", IN: " input address" }[String(F_TRANSLATION.Class.decode(words))] ??
    ""
  );
}
