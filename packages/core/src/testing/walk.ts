/**
 * Walks a process's page table in RAM with nothing but the field tables: an independent reader for tests, and the steps of
 * a walk for those who want to see one.
 */
import type { AnyLayout } from "../bits/layout.js";
import { join64, physical } from "../memory/address.js";
import type { PhysicalMemory } from "../memory/physical-memory.js";
import type { PageTable } from "../mm/page-table/page-table.js";
import { VMSAV8_BLOCK_1G, VMSAV8_BLOCK_2M, VMSAV8_PAGE, VMSAV8_TABLE } from "../mm/page-table/vmsav8-64.js";
import { X86_PDE_2M, X86_PDPTE_1G, X86_PTE, X86_TABLE } from "../mm/page-table/x86-64.js";

export interface WalkStep {
  /** What the entry is: `explain(step.layout, step.words)` tells the rest. */
  readonly layout: AnyLayout;
  readonly index: number;
  readonly address: number;
  readonly words: Int32Array;
  readonly value: bigint;
}

export interface Walk {
  readonly steps: readonly WalkStep[];
  /** Physical address of the byte; undefined when an entry is not present. */
  readonly pa: number | undefined;
  /** log2 of what the last entry maps. */
  readonly shift: number;
  /** What the last entry allows user mode. */
  readonly read: boolean;
  readonly write: boolean;
  readonly exec: boolean;
  readonly accessed: boolean;
}

const FORMATS = {
  "vmsav8-64": {
    table: VMSAV8_TABLE,
    leaves: [VMSAV8_PAGE, VMSAV8_BLOCK_2M, VMSAV8_BLOCK_1G] as const,
    next: VMSAV8_TABLE.NextLevelTable,
    isTable: (words: Int32Array) => VMSAV8_TABLE.Type.get(words) === 1,
    rights: (words: Int32Array) => ({
      read: VMSAV8_PAGE.AP1.decode(words),
      write: VMSAV8_PAGE.AP1.decode(words) && (!VMSAV8_PAGE.AP2.decode(words) || VMSAV8_PAGE.DBM.decode(words)),
      exec: !VMSAV8_PAGE.UXN.decode(words),
      accessed: VMSAV8_PAGE.AF.decode(words),
    }),
  },
  "x86-64": {
    table: X86_TABLE,
    leaves: [X86_PTE, X86_PDE_2M, X86_PDPTE_1G] as const,
    next: X86_TABLE.ADDR,
    isTable: (words: Int32Array) => !X86_TABLE.PS.decode(words),
    rights: (words: Int32Array) => ({
      read: X86_PTE.US.decode(words),
      write: X86_PTE.US.decode(words) && X86_PTE.RW.decode(words),
      exec: !X86_PTE.XD.decode(words),
      accessed: X86_PTE.A.decode(words),
    }),
  },
};

/** @throws Error when a reserved bit is set on the way: the table is wrong */
export function walkPageTable(memory: PhysicalMemory, table: PageTable, address: bigint): Walk {
  const format = FORMATS[table.format];
  const steps: WalkStep[] = [];
  let base = table.root;
  for (let height = table.levels - 1; ; height--) {
    const index = Number((address >> BigInt(12 + 9 * height)) & 0x1ffn);
    const at = base + index * 8;
    const words = Int32Array.of(memory.load32(at), memory.load32(at + 4));
    const isTable = height > 0 && format.isTable(words);
    const layout: AnyLayout = isTable ? format.table : format.leaves[height];
    const present = (words[0] & 1) !== 0;
    steps.push({ layout, index, address: at, words, value: join64(words[1], words[0]) });
    if (!present)
      return { steps, pa: undefined, shift: 12 + 9 * height, read: false, write: false, exec: false, accessed: false };
    if (layout.reservedViolated(words))
      throw new Error(`${layout.name} at 0x${at.toString(16)} has a reserved bit set`);
    if (!isTable) {
      const shift = 12 + 9 * height;
      const field = layout.field(table.format === "x86-64" ? "ADDR" : "OA");
      const pa = physical(field.hi(words), field.lo(words)) + Number(BigInt.asUintN(shift, address));
      return { steps, pa, shift, ...format.rights(words) };
    }
    base = physical(format.next.hi(words), format.next.lo(words));
  }
}
