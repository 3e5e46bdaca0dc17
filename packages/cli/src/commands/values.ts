/** Values of options as people write them; each refuses what it does not know with what it wants. */
import { InvalidArgumentError } from "commander";
import { canonicalBdf, parseHex } from "../explain/hex.js";

export function bdf(text: string): string {
  const value = canonicalBdf(text);
  if (value === undefined) throw new InvalidArgumentError("an address such as 0000:01:00.0 is wanted.");
  return value;
}

export function integer(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < low || value > high)
      throw new InvalidArgumentError(`a whole number from ${low} to ${high} is wanted.`);
    return value;
  };
}

/** Up to 64 bits, with 0x. */
export function hexValue(text: string): bigint {
  const value = /^0x/i.test(text) ? parseHex(text) : undefined;
  if (value === undefined || value >> 64n !== 0n)
    throw new InvalidArgumentError("a number such as 0x436f7d000 is wanted.");
  return value;
}

/** For options that may be repeated. */
export function collect(text: string, all: readonly string[]): string[] {
  return [...all, text];
}
