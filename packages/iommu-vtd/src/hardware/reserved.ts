/** Masks of bits that have to be zero in a table entry on this unit: reserved fields, fields whose feature is missing, and address bits above the host's width. */
import type { AnyLayout } from "@iommukit/core";

export interface ReservedOptions {
  /** Fields that this unit treats as reserved. */
  readonly missing?: readonly string[];
  /** Single bits that this unit treats as reserved: [from, to], inclusive. */
  readonly bits?: readonly (readonly [number, number])[];
  /** Host address width: higher bits of address fields are reserved. */
  readonly haw: number;
}

const MASKS = new WeakMap<AnyLayout, Map<string, Int32Array>>();

/** The same for every unit with these options: not to be written to. */
export function reservedMask(table: AnyLayout, options: ReservedOptions): Int32Array {
  const masks = MASKS.get(table) ?? new Map<string, Int32Array>();
  MASKS.set(table, masks);
  const key = JSON.stringify(options);
  const mask = masks.get(key) ?? compute(table, options);
  masks.set(key, mask);
  return mask;
}

function compute(table: AnyLayout, { missing = [], bits = [], haw }: ReservedOptions): Int32Array {
  const mask = new Int32Array(table.words);
  const set = (from: number, to: number) => {
    for (let bit = from; bit <= to; bit++) mask[bit >> 5] |= 1 << (bit & 31);
  };
  for (const field of table.fields) {
    if (field.spec.kind === "reserved" || missing.includes(field.name)) set(field.lsb, field.msb);
    else if (field.spec.kind === "addr") set((field.lsb & ~63) + haw, field.msb);
  }
  for (const [from, to] of bits) set(from, to);
  return mask;
}

/** True when one of the bits of `mask` is set in the entry at word `at`. */
export function violates(words: Int32Array, at: number, mask: Int32Array): boolean {
  let set = 0;
  for (let i = 0; i < mask.length; i++) set |= words[at + i] & mask[i];
  return set !== 0;
}

/** The same for entries whose words from the seventh on are reserved, 16 in all: the PASID table entry. Zero when it is legal. */
export function violated16(w: Int32Array, at: number, mask: Int32Array): number {
  return (
    (w[at] & mask[0]) |
    (w[at + 1] & mask[1]) |
    (w[at + 2] & mask[2]) |
    (w[at + 3] & mask[3]) |
    (w[at + 4] & mask[4]) |
    (w[at + 5] & mask[5]) |
    (w[at + 6] | w[at + 7] | w[at + 8] | w[at + 9] | w[at + 10]) |
    (w[at + 11] | w[at + 12] | w[at + 13] | w[at + 14] | w[at + 15])
  );
}

/** The same for entries of 8 words, reserved from the fourth on: the scalable-mode context entry. */
export function violated8(w: Int32Array, at: number, mask: Int32Array): number {
  return (
    (w[at] & mask[0]) |
    (w[at + 1] & mask[1]) |
    (w[at + 2] & mask[2]) |
    (w[at + 3] | w[at + 4] | w[at + 5] | w[at + 6] | w[at + 7])
  );
}
