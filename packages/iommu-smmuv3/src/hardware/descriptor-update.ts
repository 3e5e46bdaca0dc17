/** Hardware update of a descriptor's flags in memory (3.13): an atomic exchange of the low word. */
import { join64, physical } from "@iommukit/core";
import { byteReversed } from "./address-bits.js";
import type { ChipContext } from "./chip-context.js";

/**
 * @param table its name in the trace. @param dHi and `dLo`: what was read. @param bigEndian the table's byte order
 * @returns false when somebody changed the descriptor in between: it has to be read again
 */
export function updateDescriptor(
  { ports, name }: ChipContext,
  table: string,
  hi: number,
  lo: number,
  dHi: number,
  dLo: number,
  newLo: number,
  bigEndian: boolean,
): boolean {
  const { memory, trace } = ports;
  const address = physical(hi, lo);
  const reversedHi = byteReversed(dHi);
  const done = bigEndian
    ? memory.compareExchange64(address, byteReversed(dLo), reversedHi, byteReversed(newLo), reversedHi)
    : memory.compareExchange64(address, dHi, dLo, dHi, newLo);
  if (done && trace.enabled) trace.emit("table:updated", { unit: name, table, address, value: join64(dHi, newLo) });
  return done;
}
