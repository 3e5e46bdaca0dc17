/** A checker listens to the trace for breaches of one rule. */
import type { Platform, TraceEvents, TraceName } from "@iommukit/core";
import type { Finding } from "../finding.js";

/** What a checker hears, by the event's name. */
export type Listeners = { readonly [K in TraceName]?: (event: TraceEvents[K]) => void };

/** What a checker knows of the machine that it watches. */
export interface Watched {
  readonly platform: Platform;
  /** Calls back when a thread goes to sleep: what for. */
  readonly parked: (listener: (thread: string, reason: string) => void) => void;
  readonly report: (finding: Finding) => void;
}

/** One rule under watch. */
export interface Checker {
  readonly listeners: Listeners;
  /** What it notes of one thread has nothing to do with what it hears of others in between. */
  readonly commutes?: true;
  /** A run begins; what was noted before is forgotten. */
  begin(): void;
  /** The run has come to rest. */
  end(): void;
}

/** Makes a checker for one machine. */
export type CheckerFactory = (watched: Watched) => Checker;
