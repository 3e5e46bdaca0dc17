/** A seeded generator for workloads and tests; models use none. splitmix32: 2^32 period, good enough to shuffle with. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** 32 random bits, unsigned. */
  u32(): number {
    this.#state = (this.#state + 0x9e37_79b9) | 0;
    let z = this.#state;
    z = Math.imul(z ^ (z >>> 16), 0x85eb_ca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2_ae35);
    return (z ^ (z >>> 16)) >>> 0;
  }

  /** 0 … bound-1. */
  below(bound: number): number {
    return this.u32() % bound;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)];
  }
}
