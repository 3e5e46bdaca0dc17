/** Access to one field of a capability or of the header through configuration accesses, as a kernel does it. */
import type { Field } from "../bits/field.js";
import type { PciFunction } from "./pci-function.js";

/** @param at byte offset of the structure that the field's layout describes (0 for the header) */
export function readField(pci: PciFunction, at: number, field: Field): number {
  const register = pci.readConfig(at + field.word * 4, 4);
  return (register & field.lowMask) >>> field.shift;
}

/**
 * Reads the 16-bit register that holds the field (32-bit when it is wider), changes the field and writes it back.
 * Write-one-to-clear neighbours in the same register are cleared when they are set.
 */
export function writeField(pci: PciFunction, at: number, field: Field, value: number): void {
  const start = field.shift & 16;
  const narrow = field.width <= 16 && field.shift - start + field.width <= 16;
  const offset = at + field.word * 4 + (narrow ? start >> 3 : 0);
  const shift = narrow ? field.shift - start : field.shift;
  const mask = narrow ? ((1 << field.width) - 1) << shift : field.lowMask;
  const width = narrow ? 2 : 4;
  pci.writeConfig(offset, width, ((pci.readConfig(offset, width) & ~mask) | ((value << shift) & mask)) >>> 0);
}
