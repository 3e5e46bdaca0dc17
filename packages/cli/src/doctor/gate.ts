/** One condition of shared virtual addressing, and what the machine says about it. */
import type { Machine } from "./machine.js";

export interface Verdict {
  readonly gate: string;
  readonly result: "pass" | "fail" | "unknown";
  /** What was seen; of an unknown what to look at. */
  readonly because: string;
  /** What to change; of a failure only. */
  readonly change?: string;
}

export interface Gate {
  readonly name: string;
  /** Nothing for a gate that this machine does not have. */
  check(machine: Machine, device: string | undefined): readonly Omit<Verdict, "gate">[];
}

export const pass = (because: string) => ({ result: "pass", because }) as const;
export const fail = (because: string, change: string) => ({ result: "fail", because, change }) as const;
export const unknown = (because: string) => ({ result: "unknown", because }) as const;
