/** Translations through a chip's port, as a device asks for them, over the streams of stream.ts. */
import { Access, Translation, type TranslationPort, TranslationStatus } from "@iommukit/core";
import type { Measured } from "./baseline.js";
import { type Case, FIRST_RID, PASID, RIDS, VA_BASE_HI } from "./stream.js";

/** Translations of one call: a loop that is never left would run as code that was compiled for its middle. */
const BURST = 2000;

class Stream {
  #at = 0;
  #x = 1;
  #sum = 0;
  readonly #mask: number;
  readonly #sequential: boolean;
  readonly #out = new Translation();

  constructor({ order, pages }: Case) {
    this.#mask = pages - 1;
    this.#sequential = order === "seq";
  }

  /** @returns the checksum that the C walker computes as well. With two ports they take turns. */
  run(ports: readonly TranslationPort[], count: number): number {
    const [first] = ports;
    const second = ports[ports.length - 1];
    while (this.#at < count) {
      const end = Math.min(this.#at + BURST, count);
      this.#burst(first, second, end);
    }
    return this.#sum >>> 0;
  }

  #burst(even: TranslationPort, odd: TranslationPort, end: number): void {
    // Locals fold into the loop; fields and constants of a module are loaded each time, and C's are not.
    const { READ } = Access;
    const { OK } = TranslationStatus;
    const first = FIRST_RID;
    const last = RIDS - 1;
    const pasid = PASID;
    const hi = VA_BASE_HI;
    const out = this.#out;
    const mask = this.#mask;
    const sequential = this.#sequential;
    let x = this.#x | 0;
    let sum = this.#sum | 0;
    for (let i = this.#at; i < end; i++) {
      x = (Math.imul(x, 1_664_525) + 1_013_904_223) | 0;
      const random = (((x >>> 12) & mask) << 12) | (x & 0xff8);
      const address = sequential ? (((i >>> 4) & mask) << 12) | ((i & 15) << 8) : random;
      const port = (i & 1) === 0 ? even : odd;
      const status = port.translate(first + (i & last), pasid, hi, address, READ, out);
      if (status !== OK) throw new Error(`translation ${i} ended with status ${status}`);
      sum = (((Math.imul(sum, 31) + out.lo) | 0) + out.hi) | 0;
    }
    this.#x = x;
    this.#sum = sum;
    this.#at = end;
  }
}

/** A tenth of the run first, untimed, as the C walker does. With two ports they take turns. */
export function translate(ports: readonly TranslationPort[], test: Case, count: number): Measured {
  new Stream(test).run(ports, Math.ceil(count / 10));
  const stream = new Stream(test);
  const before = process.cpuUsage();
  const checksum = stream.run(ports, count);
  const { user, system } = process.cpuUsage(before);
  return { rate: count / (user + system), checksum };
}
