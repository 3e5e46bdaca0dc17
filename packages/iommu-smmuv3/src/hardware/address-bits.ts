/** 64-bit arithmetic on (hi, lo) int32 halves for table walks. */

/** Low 32 bits of the value shifted right, 0 < by < 64. */
export function shiftRight(hi: number, lo: number, by: number): number {
  if (by >= 32) return (hi >>> (by - 32)) | 0;
  return (lo >>> by) | (hi << (32 - by));
}

/** True when the value has a bit at or above `bits`, 0 < bits < 64. */
export function exceeds(hi: number, lo: number, bits: number): boolean {
  if (bits >= 32) return bits === 32 ? hi !== 0 : hi >>> (bits - 32) !== 0;
  return hi !== 0 || lo >>> bits !== 0;
}

/** The word with its bytes the other way round. */
export function byteReversed(word: number): number {
  return (word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24);
}

/** Mask of the bits of the low half at and above `shift`. */
export function lowMaskFrom(shift: number): number {
  return shift >= 32 ? 0 : -1 << shift;
}

/** Mask of the bits of the high half at and above `shift`. */
export function highMaskFrom(shift: number): number {
  if (shift <= 32) return -1;
  return shift >= 64 ? 0 : -1 << (shift - 32);
}
