/** A set-associative cache of decoded configuration, keyed by StreamID and SubstreamID. Round-robin replacement. */
import type { SetAssociative } from "../presets.js";

export class ConfigCache<T> {
  /** One object per slot, made once; the last is the scratch entry of a cache without slots. */
  readonly slots: T[] = [];
  readonly #sids: Int32Array;
  readonly #ssids: Int32Array;
  readonly #live: Uint8Array;
  readonly #victims: Uint8Array;
  readonly #sets: number;
  readonly #hashShift: number;
  readonly #ways: number;

  constructor(geometry: SetAssociative, make: () => T) {
    this.#sets = geometry.sets;
    this.#hashShift = Math.clz32(geometry.sets - 1);
    this.#ways = geometry.ways;
    const count = geometry.sets * geometry.ways;
    this.#sids = new Int32Array(count);
    this.#ssids = new Int32Array(count);
    this.#live = new Uint8Array(count);
    this.#victims = new Uint8Array(geometry.sets);
    for (let i = 0; i <= count; i++) this.slots.push(make());
  }

  #first(sid: number, ssid: number): number {
    // The topmost bits of the product: the others are the same for numbers that lie a power of two apart.
    return ((Math.imul(sid ^ (ssid << 12), 0x9e37_79b1) >>> this.#hashShift) & (this.#sets - 1)) * this.#ways;
  }

  /** Index of the slot, or -1. */
  find(sid: number, ssid: number): number {
    if (this.#sets === 0) return -1;
    const first = this.#first(sid, ssid);
    for (let i = first; i < first + this.#ways; i++) {
      if (this.#live[i] === 1 && this.#sids[i] === sid && this.#ssids[i] === ssid) return i;
    }
    return -1;
  }

  /** A slot to decode into; nothing finds it before `keep`. */
  victim(sid: number, ssid: number): number {
    if (this.#sets === 0) return this.slots.length - 1;
    const first = this.#first(sid, ssid);
    for (let i = first; i < first + this.#ways; i++) if (this.#live[i] === 0) return i;
    const set = first / this.#ways;
    const slot = first + this.#victims[set];
    this.#victims[set] = (this.#victims[set] + 1) % this.#ways;
    this.#live[slot] = 0;
    return slot;
  }

  keep(slot: number, sid: number, ssid: number): void {
    if (this.#sets === 0) return;
    this.#sids[slot] = sid;
    this.#ssids[slot] = ssid;
    this.#live[slot] = 1;
  }

  /** Drops what lies in both ranges; answers how many entries. */
  invalidate(firstSid: number, lastSid: number, firstSsid: number, lastSsid: number): number {
    let count = 0;
    for (let i = 0; i < this.#live.length; i++) {
      if (this.#live[i] === 0) continue;
      const sid = this.#sids[i] >>> 0;
      const ssid = this.#ssids[i];
      if (sid < firstSid || sid > lastSid || ssid < firstSsid || ssid > lastSsid) continue;
      this.#live[i] = 0;
      count++;
    }
    return count;
  }

  /** The entries that can be found; for reports. */
  *contents(): Generator<{ readonly sid: number; readonly ssid: number; readonly entry: T }> {
    for (const [i, live] of this.#live.entries())
      if (live === 1) yield { sid: this.#sids[i] >>> 0, ssid: this.#ssids[i], entry: this.slots[i] };
  }

  clear(): number {
    const count = this.#live.reduce((sum, live) => sum + live, 0);
    this.#live.fill(0);
    return count;
  }
}
