/** Values of a device script: numbers are plain or hexadecimal strings, bytes are hex digits. */

/** Number of a field; hex strings, plain numbers, and truth values for single bits. @throws Error for anything else */
export function number(value: unknown): number {
  const result = ["string", "number", "boolean"].includes(typeof value) ? Number(value) : Number.NaN;
  if (!Number.isSafeInteger(result)) throw new Error(`not a number in a device script: ${JSON.stringify(value)}`);
  return result;
}

/** More than any script fills or copies at once. */
const MOST_BYTES = 0x1000_0000;

/** A number of bytes. @throws Error for one that no script would mean */
export function length(value: unknown): number {
  const bytes = number(value);
  if (bytes < 0 || bytes > MOST_BYTES) throw new Error(`not a length in a device script: ${JSON.stringify(value)}`);
  return bytes;
}

export function big(value: unknown): bigint {
  return typeof value === "string" ? BigInt(value) : BigInt(number(value));
}

/** Bytes in their order: hex digits, which may be apart or follow 0x, or a list of numbers. @throws Error for anything else */
export function bytesOf(value: unknown): Uint8Array {
  if (Array.isArray(value)) return Uint8Array.from(value, number);
  const digits = String(value).replace(/^0x|\s/gi, "");
  if (!/^([\da-f]{2})*$/i.test(digits)) throw new Error(`not bytes in a device script: ${JSON.stringify(value)}`);
  return Uint8Array.from({ length: digits.length / 2 }, (_, i) => Number.parseInt(digits.slice(i * 2, i * 2 + 2), 16));
}

export function bytesToHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
