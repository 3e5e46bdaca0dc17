/** One entry that a walk read, and how the walk ended. */
import type { AnyLayout } from "@iommukit/core";
import { hex } from "../hex.js";
import { wordsOf } from "../record.js";
import type { MemoryReader } from "./memory-image.js";

export interface WalkStep {
  /** "root[00]", "L1[002]". */
  readonly name: string;
  readonly address: string;
  /** 64-bit words of the entry, lowest first. */
  readonly words: readonly string[];
  readonly meaning: string;
}

export interface Walk {
  readonly steps: readonly WalkStep[];
  readonly verdict: string;
  /** Where the address leads; undefined when the walk stopped before. */
  readonly output: string | undefined;
}

/** Ends a walk where it cannot go on: its message is the verdict. */
class WalkEnd extends Error {}

export class Walker {
  readonly steps: WalkStep[] = [];

  constructor(private readonly memory: MemoryReader) {}

  read(name: string, address: bigint, table: AnyLayout, meaning: (words: Int32Array) => string): Int32Array {
    const quads: bigint[] = [];
    const count = Math.max(1, table.bits / 64);
    for (let n = 0; n < count; n++) {
      const value = this.memory.read64(address + BigInt(8 * n));
      if (value === undefined && n > 0 && this.memory.partial === true) break;
      if (value === undefined)
        this.stop(this.memory.absence?.(address) ?? `${name} @ ${hex(address)} is in no --memory image`);
      quads.push(value);
    }
    return this.given(name, hex(address), quads, table, meaning);
  }

  /** An entry that is known from elsewhere. @param address "unknown" where nobody says it */
  given(
    name: string,
    address: string,
    quads: readonly bigint[],
    table: AnyLayout,
    meaning: (words: Int32Array) => string,
  ): Int32Array {
    const words = new Int32Array(Math.max(2, table.words));
    words.set(wordsOf(quads));
    this.steps.push({ name, address, words: quads.map((value) => hex(value, 16)), meaning: meaning(words) });
    return words;
  }

  /** The walk ends here, without an output. */
  stop(verdict: string): never {
    throw new WalkEnd(verdict);
  }

  end(verdict: string, output?: bigint): Walk {
    return { steps: this.steps, verdict, output: output === undefined ? undefined : hex(output) };
  }
}

export function walked(memory: MemoryReader, walk: (walker: Walker) => Walk): Walk {
  const walker = new Walker(memory);
  try {
    return walk(walker);
  } catch (error) {
    if (error instanceof WalkEnd) return walker.end(error.message);
    throw error;
  }
}

export function indexText(index: number): string {
  return index.toString(16).padStart(3, "0");
}

/** Set bits by name, then the given fields by value: "P+ RW+ ADDR=0x1000". */
export function briefly(
  table: AnyLayout,
  words: Int32Array,
  bits: readonly string[],
  values: readonly string[],
): string {
  const flags = bits.map((name) => `${name}${table.field(name).getBig(words) === 0n ? "-" : "+"}`);
  return [...flags, ...values.map((name) => `${name}=${hex(table.field(name).getBig(words))}`)].join(" ");
}

/** The address after a walk to a page of 2^shift bytes. */
export function mapped(walker: Walker, address: bigint, output: bigint, shift: number): Walk {
  return walker.end(`mapped: ${hex(address)} -> ${hex(output)}, ${hex(1n << BigInt(shift))} bytes`, output);
}

/** What the access that a walk is for wants; undefined where the record does not say. */
export interface WalkRequest {
  readonly address: bigint;
  readonly access: "read" | "write" | "execute" | "atomic" | undefined;
  readonly privileged?: boolean | undefined;
}

export function writes({ access }: Pick<WalkRequest, "access">): boolean {
  return access === "write" || access === "atomic";
}

/** Base of a page of 2^shift bytes with the address's offset in it. */
export function within(base: bigint, shift: number, address: bigint): bigint {
  const mask = (1n << BigInt(shift)) - 1n;
  return (base & ~mask) | (address & mask);
}
