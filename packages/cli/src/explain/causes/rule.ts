/** A likely cause as data: when it applies, what speaks for it, how to tell it from its neighbours, what to try, who says so. */
import type { Facts } from "../record.js";

export interface CauseRule {
  /** Stable: JSON output and filters use it. */
  readonly id: string;
  readonly title: string;
  /** 0: does not apply; higher comes first. Between 1 and 100. */
  weight(facts: Facts): number;
  readonly because: string;
  /** What tells it from the other causes. */
  readonly distinguish: string;
  readonly attempt: string;
  /** Specification sections and public threads. */
  readonly sources: readonly string[];
}

export interface Cause extends Omit<CauseRule, "weight"> {
  readonly weight: number;
}
