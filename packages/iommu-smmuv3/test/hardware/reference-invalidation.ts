/** Commands that a chip must obey by forgetting one descriptor (IHI 0070 4.4), and that name no more than that takes. */
import type { Random } from "@iommukit/core";
import * as s from "../../src/index.js";
import type { Fields } from "./machine.js";
import type { Read } from "./reference-walk.js";

type Command = [table: { encode(values: object): Int32Array }, values: Fields];

interface Tags {
  readonly asid: number;
  readonly vmid: number;
  readonly el2: boolean;
  readonly e2h: boolean;
}

const GRANULE_CODE: Readonly<Record<number, number>> = { 12: 1, 14: 2, 16: 3 };

/**
 * `old` is what the descriptor was: what a page or block led to is one entry. `alone`: so is what a table has led to, as only one page
 * below it has been asked for. Otherwise everything goes.
 */
export function forget(
  random: Random,
  read: Read,
  old: bigint,
  { asid, vmid, el2, e2h }: Tags,
  alone: boolean,
): Command[] {
  const last = read.level === 3 || (old & 3n) !== 3n;
  if (read.stage === 2) {
    const combined: Command = [s.CMD_TLBI_NH_ALL, { Opcode: "TLBI_NH_ALL", VMID: vmid }];
    if (!last || random.below(3) === 0) return [[s.CMD_TLBI_S12_VMALL, { Opcode: "TLBI_S12_VMALL", VMID: vmid }]];
    return [[s.CMD_TLBI_S2_IPA, { Opcode: "TLBI_S2_IPA", VMID: vmid, ...place(random, read, last) }], combined];
  }
  const by = last || alone ? random.below(3) : 0;
  if (by === 0) {
    if (el2) return [[s.CMD_TLBI_EL2_ALL, { Opcode: "TLBI_EL2_ALL" }]];
    return [[s.CMD_TLBI_NH_ALL, { Opcode: "TLBI_NH_ALL", VMID: vmid }]];
  }
  const where = place(random, read, last);
  if (el2 && by === 1) return [[s.CMD_TLBI_EL2_VA, { Opcode: "TLBI_EL2_VA", ASID: e2h ? asid : 0, ...where }]];
  if (el2) return [[s.CMD_TLBI_EL2_VAA, { Opcode: "TLBI_EL2_VAA", ...where }]];
  if (by === 1) return [[s.CMD_TLBI_NH_VA, { Opcode: "TLBI_NH_VA", VMID: vmid, ASID: asid, ...where }]];
  return [[s.CMD_TLBI_NH_VAA, { Opcode: "TLBI_NH_VAA", VMID: vmid, ...where }]];
}

/** One address, one block with its level, or a range that the address is in (4.4.1.1). */
function place(random: Random, { input, granule, level }: Read, last: boolean): Fields {
  const aligned = (address: bigint, shift: number) => (address >> BigInt(shift)) << BigInt(shift);
  const Leaf = last && random.below(2) === 0;
  const TG = GRANULE_CODE[granule];
  const hasLevel = last && level > 0 && !(granule === 14 && level === 1);
  switch (random.below(3)) {
    case 0:
      return { Leaf, Address: aligned(input, 12) };
    case 1:
      if (hasLevel) return { Leaf, TG, TTL: level, Address: aligned(input, granule + (3 - level) * (granule - 3)) };
      return { Leaf, TG, NUM: 1, Address: aligned(input, granule) };
    default: {
      const NUM = 1 + random.below(31);
      const SCALE = random.below(8);
      const before = BigInt(random.below((NUM + 1) * 2 ** SCALE)) << BigInt(granule);
      const start = aligned(input, granule) - before;
      // A range does not cross from one half of the address space into the other.
      const crosses = start < 0n || start >> 55n !== input >> 55n;
      return { Leaf, TG, NUM, SCALE, Address: crosses ? aligned(input, granule) : start };
    }
  }
}
