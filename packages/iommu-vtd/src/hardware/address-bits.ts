/** 64-bit arithmetic on the (hi, lo) int32 halves of addresses. */

/** Whether an address with that high word is above 2^bits - 1; bits is 33 … 64. */
export function beyond(hi: number, bits: number): boolean {
  return bits < 64 && hi >>> (bits - 32) !== 0;
}

/** That high word without the bits above 2^bits - 1. */
export function within(hi: number, bits: number): number {
  return bits < 64 ? hi & ~(-1 << (bits - 32)) : hi;
}

/** Whether two naturally aligned ranges meet: `shift` is the log2 of the larger one. */
export function meets(hiA: number, loA: number, hiB: number, loB: number, shift: number): boolean {
  if (shift >= 64) return true;
  if (shift >= 32) return (hiA ^ hiB) >>> (shift - 32) === 0;
  return hiA === hiB && (loA ^ loB) >>> shift === 0;
}

/** Low word of an address with its lowest `shift` bits cleared. */
export function alignLo(lo: number, shift: number): number {
  return shift >= 32 ? 0 : lo & (-1 << shift);
}

/** High word of an address with its lowest `shift` bits cleared. */
export function alignHi(hi: number, shift: number): number {
  if (shift <= 32) return hi;
  return shift >= 64 ? 0 : hi & (-1 << (shift - 32));
}
