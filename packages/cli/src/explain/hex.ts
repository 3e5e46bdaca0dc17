/** Numbers as text: always with 0x, padded where the width says something. */

export function hex(value: number | bigint, digits = 1): string {
  return `0x${value.toString(16).padStart(digits, "0")}`;
}

/** "0x1f", "1f": digits of a hexadecimal number; undefined when they are none. */
export function parseHex(text: string): bigint | undefined {
  const digits = /^(?:0x)?([0-9a-f]{1,32})$/i.exec(text)?.[1];
  return digits === undefined ? undefined : BigInt(`0x${digits}`);
}

/** A PCI address as "dddd:bb:dd.f" from what a log has: with or without segment, with or without 0x. */
export function canonicalBdf(text: string): string | undefined {
  const match = /^(?:([0-9a-f]{4,8}):)?(?:0x)?([0-9a-f]{1,2}):(?:0x)?([0-9a-f]{1,2})\.(?:0x)?([0-7])$/i.exec(text);
  if (match === null) return undefined;
  const [, segment = "0", bus, device, fn] = match;
  const two = (digits: string) => digits.toLowerCase().padStart(2, "0");
  return Number.parseInt(device, 16) > 0x1f
    ? undefined
    : `${segment.toLowerCase().padStart(4, "0")}:${two(bus)}:${two(device)}.${fn}`;
}

export function ridOf(bdf: string): number {
  const [, bus, device, fn] = /:([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$/.exec(bdf) ?? ["", "0", "0", "0"];
  return (Number.parseInt(bus, 16) << 8) | (Number.parseInt(device, 16) << 3) | Number(fn);
}

export function bdfOf(rid: number, segment = 0): string {
  const pad = (value: number, digits: number) => value.toString(16).padStart(digits, "0");
  return `${pad(segment, 4)}:${pad(rid >>> 8, 2)}:${pad((rid >>> 3) & 0x1f, 2)}.${rid & 7}`;
}
