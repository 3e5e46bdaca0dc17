/**
 * The one typed stream of what happens on a platform. The command line, reports, tests and checkers all read it.
 * Guard every emit with `enabled`: with no listener nothing is built and nothing is called.
 */
import { EventEmitter } from "eventemitter3";
import { hex } from "../memory/address.js";
import type { TraceEvents } from "./events.js";

/** "walk:step", "fault:recorded", … */
export type TraceName = keyof TraceEvents & string;

/** One event as `subscribe` hands it out. */
export type TraceRecord = { [K in TraceName]: { readonly time: number; readonly name: K } & TraceEvents[K] }[TraceName];

type Listener<K extends TraceName> = (payload: TraceEvents[K]) => void;
type AnyListener = (payload: unknown) => void;
type Listeners = ReadonlyMap<string, readonly AnyListener[]>;
const NOBODY: readonly AnyListener[] = [];

/** Whether anybody listens to one of some names, always up to date: what the hot paths ask. */
export interface TraceInterest {
  readonly wanted: boolean;
}

/** The interest in one event, and the way to its listeners that is for emitters with no time to look them up. */
export interface TraceChannel<K extends TraceName> extends TraceInterest {
  /** As `Tracer.emit`. */
  emit(payload: TraceEvents[K]): void;
}

class Interest implements TraceInterest {
  wanted = false;

  constructor(
    readonly names: readonly TraceName[],
    readonly changed: () => void,
  ) {}

  /** @param all whether somebody listens to every event. @returns whether `wanted` has turned */
  update(listeners: Listeners, all: boolean): boolean {
    const before = this.wanted;
    this.wanted = all || this.names.some((name) => listeners.has(name));
    return this.wanted !== before;
  }
}

class Channel<K extends TraceName> extends Interest implements TraceChannel<K> {
  #listeners = NOBODY;

  constructor(
    private readonly name: K,
    changed: () => void,
    private readonly record: (name: K, payload: TraceEvents[K]) => void,
  ) {
    super([name], changed);
  }

  override update(listeners: Listeners, all: boolean): boolean {
    this.#listeners = listeners.get(this.name) ?? NOBODY;
    return super.update(listeners, all);
  }

  emit(payload: TraceEvents[K]): void {
    for (const listener of this.#listeners) listener(payload);
    this.record(this.name, payload);
  }
}

/** `platform.trace`: `on` hears one event, `subscribe` all of them with the time; both return what ends it. */
export class Tracer {
  /** True while anybody listens. */
  enabled = false;
  /** Told of each event, whatever its name, behind its listeners. Nobody emits for its sake. */
  onEmit: (<K extends TraceName>(name: K, payload: TraceEvents[K]) => void) | undefined;
  readonly #named = new EventEmitter<Record<string, AnyListener>>();
  /** The named listeners once more: a look-up in a Map costs a tenth of an emitter's. */
  #listeners: Listeners = new Map();
  #all: readonly ((record: TraceRecord) => void)[] = [];
  readonly #interests: Interest[] = [];

  /** @param now the time that records carry, in virtual nanoseconds */
  constructor(private readonly now: () => number) {}

  /** The payload is the trace's from here on: it becomes the record of those who subscribed. */
  emit<K extends TraceName>(name: K, payload: TraceEvents[K]): void {
    if (!this.enabled) return;
    for (const listener of this.#listeners.get(name) ?? NOBODY) listener(payload);
    this.#record(name, payload);
  }

  #record<K extends TraceName>(name: K, payload: TraceEvents[K]): void {
    this.onEmit?.(name, payload);
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
    return this.#add(new Interest(names, changed));
  }

  /** The same for one event of a hot path: `if (channel.wanted) channel.emit(…)`. */
  channel<K extends TraceName>(name: K, changed: () => void = () => {}): TraceChannel<K> {
    return this.#add(new Channel(name, changed, (of, payload) => this.#record(of, payload)));
  }

  #add<I extends Interest>(interest: I): I {
    this.#interests.push(interest);
    interest.update(this.#listeners, this.#all.length > 0);
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
    const all = this.#all.length > 0;
    for (const interest of this.#interests) if (interest.update(this.#listeners, all)) interest.changed();
  }
}

/** One line of NDJSON: bigints, addresses and words as hex strings. */
export function traceLine(record: TraceRecord): string {
  const { time, name, ...payload } = record;
  return JSON.stringify({ time, name, ...payload }, hexValues);
}

function hexValues(key: string, value: unknown): unknown {
  if (typeof value === "bigint") return hex(value);
  if (typeof value === "number" && (key === "address" || key === "pa")) return hex(value);
  return key === "words" && Array.isArray(value) ? value.map((word: number) => hex(word >>> 0, 8)) : value;
}
