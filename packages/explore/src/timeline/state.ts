/** How a machine stood at one moment of a run: who holds and waits, what the tables say, what the caches hold. Plain data. */
import {
  type CachedEntry,
  type EntryKind,
  fieldsSet,
  type Platform,
  shortValue,
  type TraceEvents,
  type TraceRecord,
} from "@iommukit/core";
import { ACTORS } from "../run.js";
import { EntryKinds } from "../sanitizer/entry-kinds.js";

/** Entries, page table words, and entries of one cache that are shown; the ones used last. */
const MOST_ENTRIES = 6;
const MOST_WORDS = 6;
const MOST_CACHED = 8;

/** A lock that is held or wanted. */
export interface LockState {
  readonly lock: string;
  /** Nobody when it has just been handed over. */
  readonly holder: string | undefined;
  readonly wanted: readonly string[];
}

/** One 64-bit word of an entry. */
export interface WordState {
  readonly offset: number;
  readonly value: bigint;
  /** Names and values of the fields that are not zero. */
  readonly fields: string;
}

/** An entry that a driver has written, with its words. */
export interface EntryState {
  readonly unit: string;
  /** "STE", "Scalable-Mode PASID Table Entry"; a level's name for a page table. */
  readonly table: string;
  readonly address: number;
  /** Without the words of zeros. */
  readonly words: readonly WordState[];
}

/** An entry of one of the caches. */
export interface CacheState extends CachedEntry {
  /** The IOMMU or device. */
  readonly of: string;
}

/** What stands below a timeline. */
export interface MachineState {
  /** "deadlock"; "I-1 was broken"; "the actors had ended". */
  readonly when: string;
  readonly waiting: readonly { readonly thread: string; readonly for: string }[];
  readonly locks: readonly LockState[];
  readonly entries: readonly EntryState[];
  readonly pageTables: readonly EntryState[];
  readonly caches: readonly CacheState[];
}

/** Who waits for what; the explorer's own threads are none of the scenario's. */
export interface Waiting {
  readonly waiting: readonly { readonly name: string; readonly waitsFor: string }[];
}

type Store = Pick<TraceEvents["table:written"], "by" | "table" | "address">;

interface Lock {
  holder: string | undefined;
  readonly wanted: Set<string>;
}

/** Follows the trace, so that the state can be told at any moment. */
export class StateWatch {
  readonly #locks = new Map<string, Lock>();
  readonly #kinds: EntryKinds;
  /** Address of each entry that a driver has written, last one last. */
  readonly #entries = new Map<number, { readonly unit: string; readonly kind: EntryKind }>();
  readonly #words = new Map<number, { readonly by: string; readonly table: string }>();
  /** Entries as they were after the last store that was seen, by address. */
  readonly #seen = new Map<number, Int32Array>();

  constructor(
    private readonly platform: Platform,
    private readonly threads: Waiting,
  ) {
    this.#kinds = new EntryKinds(platform);
  }

  /** @param exploring page table words from before are of no interest */
  take(record: TraceRecord, exploring: boolean): void {
    if (record.name === "table:written") this.#written(record, exploring);
    else if (record.name === "lock:acquired") {
      const lock = this.#lock(record.lock);
      lock.holder = record.thread;
      lock.wanted.delete(record.thread);
    } else if (record.name === "lock:contended") this.#lock(record.lock).wanted.add(record.thread);
    else if (record.name === "lock:released") this.#lock(record.lock).holder = undefined;
  }

  #lock(name: string): Lock {
    let lock = this.#locks.get(name);
    if (lock === undefined) {
      lock = { holder: undefined, wanted: new Set() };
      this.#locks.set(name, lock);
    }
    return lock;
  }

  /** @returns the entry that the store belongs to, and the fields of it that it has changed; undefined for a page table */
  stored({ by, table, address }: Store): { readonly at: number; readonly changed: readonly string[] } | undefined {
    const layout = this.#kinds.of(by, table)?.layout;
    if (layout === undefined) return undefined;
    const at = address - (address % layout.bytes);
    const now = this.#read(at, layout.words);
    const before = this.#seen.get(at);
    this.#seen.set(at, now);
    if (before === undefined) return { at, changed: [] };
    const changed = layout.fields.filter((field) => field.getBig(before) !== field.getBig(now));
    return { at, changed: changed.map((field) => `${field.name}=${shortValue(field, now)}`) };
  }

  #read(address: number, words: number): Int32Array {
    const { memory } = this.platform;
    return Int32Array.from({ length: words }, (_, word) => memory.load32(address + word * 4));
  }

  #written({ by, table, address }: Store, exploring: boolean): void {
    const kind = this.#kinds.of(by, table);
    if (kind) {
      const at = address - (address % kind.layout.bytes);
      this.#entries.delete(at);
      this.#entries.set(at, { unit: by, kind });
    } else if (exploring) {
      this.#words.delete(address);
      this.#words.set(address, { by, table });
    }
  }

  now(when: string): MachineState {
    const waiting = this.threads.waiting
      .filter(({ waitsFor }) => waitsFor !== ACTORS)
      .map(({ name, waitsFor }) => ({ thread: name, for: waitsFor }));
    const locks = [...this.#locks]
      .filter(([, { holder, wanted }]) => holder !== undefined || wanted.size > 0)
      .map(([lock, { holder, wanted }]) => ({ lock, holder, wanted: [...wanted] }));
    const entries = [...this.#entries].slice(-MOST_ENTRIES).map(([address, { unit, kind }]) => ({
      unit,
      table: kind.layout.name,
      address,
      words: this.#wordsOf(address, kind),
    }));
    const pageTables = [...this.#words].slice(-MOST_WORDS).map(([address, { by, table }]) => ({
      unit: by,
      table,
      address,
      words: [{ offset: 0, value: this.#load(address), fields: "" }],
    }));
    return { when, waiting, locks, entries, pageTables, caches: this.#caches() };
  }

  #load(address: number): bigint {
    const { memory } = this.platform;
    return (BigInt(memory.load32(address + 4) >>> 0) << 32n) | BigInt(memory.load32(address) >>> 0);
  }

  /** Each field stands with the word in which it begins. */
  #wordsOf(address: number, { layout }: EntryKind): WordState[] {
    const whole = this.#read(address, layout.words);
    const words: WordState[] = [];
    for (let word = 0; word < layout.words; word += 2) {
      const value = this.#load(address + word * 4);
      if (value === 0n && word > 0) continue;
      const inside = layout.fields.filter(({ lsb }) => lsb >= word * 32 && lsb < word * 32 + 64);
      words.push({ offset: word * 4, value, fields: fieldsSet(inside, whole) });
    }
    return words;
  }

  #caches(): CacheState[] {
    const holders = [
      ...this.platform.iommus.map(({ name, chip }) => ({ name, contents: chip.cacheContents?.() ?? [] })),
      ...[...this.platform.devices].map(([name, { pci }]) => ({ name, contents: pci.cacheContents?.() ?? [] })),
    ];
    return holders.flatMap(({ name, contents }) => {
      const caches = [...new Set(contents.map(({ cache }) => cache))];
      return caches.flatMap((cache) => {
        const all = contents.filter((entry) => entry.cache === cache);
        const left = all.length - MOST_CACHED;
        const rest = left > 0 ? [{ cache, tag: `${left} more`, says: "" }] : [];
        return [...all.slice(0, MOST_CACHED), ...rest].map((entry) => ({ of: name, ...entry }));
      });
    });
  }
}
