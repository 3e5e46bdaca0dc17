/** Page sizes and the arithmetic between 64-bit addresses and their (hi, lo) int32 halves. */

export const PAGE_SHIFT = 12;

/** Bytes of the kernel's page, on both architectures here. */
export const PAGE_SIZE = 4096;

/** 2^32: what the upper half of an address counts. */
export const TWO32 = 0x1_0000_0000;

/** A bigint and its halves in the same bytes: splitting through them costs a tenth of shifts and masks. Little-endian, as RAM is. */
const halves = new Int32Array(2);
const whole = new BigUint64Array(halves.buffer);

/** Low 32 bits of a bigint as int32. */
export function lo32(value: bigint): number {
  whole[0] = value;
  return halves[0];
}

/** Bits 63:32 of a bigint as int32. */
export function hi32(value: bigint): number {
  whole[0] = value;
  return halves[1];
}

/** Unsigned 64-bit value of two int32 halves. */
export function join64(hi: number, lo: number): bigint {
  halves[0] = lo;
  halves[1] = hi;
  return whole[0];
}

/** A bigint of 64 bits as a number, rounded beyond 2^53; multiples of 4 KiB are exact. */
export function toNumber(value: bigint): number {
  whole[0] = value;
  return physical(halves[1], halves[0]);
}

/** A whole number from 0 to 2^53 as a bigint. */
export function toBigint(value: number): bigint {
  return join64(hiOf(value), loOf(value));
}

/** Physical address (at most 52 bits, exact) of two int32 halves. */
export function physical(hi: number, lo: number): number {
  return (hi >>> 0) * TWO32 + (lo >>> 0);
}

/** Bits 63:32 of a physical address, as an int32. */
export function hiOf(pa: number): number {
  return Math.floor(pa / TWO32) | 0;
}

/** Bits 31:0, as an int32. */
export function loOf(pa: number): number {
  return pa | 0;
}

/** "0x1000"; with `digits`, padded with zeros to so many. */
export function hex(value: number | bigint, digits = 0): string {
  return `0x${value.toString(16).padStart(digits, "0")}`;
}
