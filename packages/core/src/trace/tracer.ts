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

export class Tracer {
  /** True while anybody listens. */
  enabled = false;
  readonly #named = new EventEmitter<Record<string, AnyListener>>();
  readonly #all = new Set<(record: TraceRecord) => void>();

  /** @param now the time that records carry, in virtual nanoseconds */
  constructor(private readonly now: () => number) {}

  emit<K extends TraceName>(name: K, payload: TraceEvents[K]): void {
    if (!this.enabled) return;
    this.#named.emit(name, payload);
    if (this.#all.size === 0) return;
    const record = { time: this.now(), name, ...payload } as unknown as TraceRecord;
    for (const listener of this.#all) listener(record);
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
    this.#all.add(listener);
    this.#refresh();
    return () => {
      this.#all.delete(listener);
      this.#refresh();
    };
  }

  #refresh(): void {
    this.enabled = this.#all.size > 0 || this.#named.eventNames().length > 0;
  }
}

/** One line of NDJSON: bigints and addresses as hex strings. */
export function traceLine(record: TraceRecord): string {
  return JSON.stringify(record, (_key, value) => (typeof value === "bigint" ? `0x${value.toString(16)}` : value));
}
