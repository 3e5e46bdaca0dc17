/** CRC32C (Castagnoli) and CRC32 (IEEE 802.3), bit-reflected, with inversion before and after; a result continues as a seed. */

function table(polynomial: number): Int32Array {
  return Int32Array.from({ length: 256 }, (_, index) => {
    let value = index;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ polynomial : value >>> 1;
    return value;
  });
}

const CRC32C = table(0x82f6_3b78);
const CRC32 = table(0xedb8_8320);

function crc(values: Int32Array, seed: number, bytes: Uint8Array): number {
  let state = ~seed;
  // An iterator over the bytes would take seven times as long.
  for (let n = 0; n < bytes.length; n++) state = (state >>> 8) ^ values[(state ^ bytes[n]) & 0xff];
  return ~state >>> 0;
}

export function crc32c(seed: number, bytes: Uint8Array): number {
  return crc(CRC32C, seed, bytes);
}

export function crc32(seed: number, bytes: Uint8Array): number {
  return crc(CRC32, seed, bytes);
}
