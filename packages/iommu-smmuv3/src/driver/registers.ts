/** Registers as the driver accesses them: by their tables, in one access of their width. */
import {
  type AnyRegister,
  type Encodable,
  type Field,
  type FieldSpecs,
  join64,
  type Mmio,
  type Register,
} from "@iommukit/core";

export function writeRegister<F extends FieldSpecs>(mmio: Mmio, register: Register<F>, values: Encodable<F>): void {
  const words = register.encode(values);
  if (register.words === 2) mmio.write64(register.offset, join64(words[1], words[0]));
  else mmio.write32(register.offset, words[0] >>> 0);
}

/** One field of a 32-bit register. */
export function readField(mmio: Mmio, register: AnyRegister, field: Field): number {
  return field.get(Int32Array.of(mmio.read32(register.offset) | 0));
}
