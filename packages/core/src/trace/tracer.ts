/**
 * The one typed stream of what happens on a platform. The command line, reports, tests and checkers all read it.
 * Guard every emit with `enabled`: with no listener nothing is built and nothing is called.
 */
import { EventEmitter } from "eventemitter3";
import type { TraceEvents } from "./events.js";

export type TraceName = keyof TraceEvents & string;

/** One event as `subscribe` hands it out. */
export type TraceRecord = { [K in TraceName]: { readonly time: number; readonly name: K } & TraceEvents[K] }[TraceName];

type Listener<K extends TraceName> = (payload: TraceEvents[K]) => void;
type AnyListener = (payload: unknown) => void;
const NOBODY: readonly AnyListener[] = [];

/** Whether anybody listens to one of some names, always up to date: what the hot paths ask. */
export interface TraceInterest {
  readonly wanted: boolean;
}

interface Interest extends TraceInterest {
  readonly names: readonly TraceName[];
  readonly changed: () => void;
  wanted: boolean;
}

export class Tracer {
  /** True while anybody listens. */
  enabled = false;
  readonly #named = new EventEmitter<Record<string, AnyListener>>();
  /** The named listeners once more: a look-up in a Map costs a tenth of an emitter's. */
  #listeners: ReadonlyMap<string, readonly AnyListener[]> = new Map();
  #all: readonly ((record: TraceRecord) => void)[] = [];
  readonly #interests: Interest[] = [];

  /** @param now the time that records carry, in virtual nanoseconds */
  constructor(private readonly now: () => number) {}

  /** The payload is the trace's from here on: it becomes the record of those who subscribed. */
  emit<K extends TraceName>(name: K, payload: TraceEvents[K]): void {
    if (!this.enabled) return;
    for (const listener of this.#listeners.get(name) ?? NOBODY) listener(payload);
    const all = this.#all;
    if (all.length === 0) return;
    // A copy would cost five times as much.
    const record = payload as unknown as { time: number; name: string };
    record.time = this.now();
    record.name = name;
    for (const listener of all) listener(record as TraceRecord);
  }

  /** For events whose payload takes long to make: whether anybody would get it. */
  wants(name: TraceName): boolean {
    return this.enabled && (this.#all.length > 0 || this.#listeners.has(name));
  }

  /**
   * For an emitter whose payloads cost more than its work: `if (interest.wanted) trace.emit(…)`.
   * @param changed told when that turns
   */
  interest(names: readonly TraceName[], changed: () => void = () => {}): TraceInterest {
    const interest = { names, changed, wanted: this.#wants(names) };
    this.#interests.push(interest);
    return interest;
  }

  /** @returns a function that takes the listener off again */
  on<K extends TraceName>(name: K, listener: Listener<K>): () => void {
    this.#named.on(name, listener as AnyListener);
    this.#refresh();
    return () => {
      this.#named.off(name, listener as AnyListener);
      this.#refresh();
    };
  }

  /** Every event in order. @returns a function that ends the subscription */
  subscribe(listener: (record: TraceRecord) => void): () => void {
    this.#all = [...this.#all, listener];
    this.#refresh();
    return () => {
      this.#all = this.#all.filter((each) => each !== listener);
      this.#refresh();
    };
  }

  #refresh(): void {
    this.#listeners = new Map(
      this.#named.eventNames().map((name) => [String(name), this.#named.listeners(String(name))]),
    );
    this.enabled = this.#all.length > 0 || this.#listeners.size > 0;
    for (const interest of this.#interests) {
      const wanted = this.#wants(interest.names);
      if (interest.wanted === wanted) continue;
      interest.wanted = wanted;
      interest.changed();
    }
  }

  #wants(names: readonly TraceName[]): boolean {
    return this.#all.length > 0 || names.some((name) => this.#listeners.has(name));
  }
}

/** One line of NDJSON: bigints and addresses as hex strings. */
export function traceLine(record: TraceRecord): string {
  const { time, name, ...payload } = record;
  return JSON.stringify({ time, name, ...payload }, (_key, value) =>
    typeof value === "bigint" ? `0x${value.toString(16)}` : value,
  );
}
