/** The "why" part of a report: faults of the same kind share one answer. Bounded, however long the input. */

import { causesOf } from "./causes/causes.js";
import type { Cause } from "./causes/rule.js";
import { hex } from "./hex.js";
import type { ExplainRecord } from "./record.js";

/** Different faults that are kept apart; what comes after these is only counted. */
const GROUPS = 256;

export interface WhyGroup {
  readonly title: string;
  readonly firstLine: number;
  count: number;
  readonly causes: readonly Cause[];
}

export class Why {
  readonly #groups = new Map<string, WhyGroup>();
  #others = 0;

  add({ facts, line }: ExplainRecord): void {
    const causes = causesOf(facts);
    if (causes.length === 0) return;
    const who = facts.device ?? (facts.sid === undefined ? "unknown device" : `StreamID ${hex(facts.sid)}`);
    const code = facts.code === undefined ? "" : ` ${hex(facts.code, 2)}`;
    const title = `${facts.iommu}${code} ${facts.name ?? ""} of ${who}`;
    const key = [title, ...causes.map(({ id }) => id)].join(" ");
    const group = this.#groups.get(key);
    if (group !== undefined) group.count++;
    else if (this.#groups.size < GROUPS) this.#groups.set(key, { title, firstLine: line, count: 1, causes });
    else this.#others++;
  }

  get groups(): readonly WhyGroup[] {
    return [...this.#groups.values()].sort((a, b) => b.count - a.count || a.firstLine - b.firstLine);
  }

  /** Faults beyond the groups that are kept. */
  get others(): number {
    return this.#others;
  }
}
