/**
 * What Linux on x86-64 writes for user pages: US on every level, execute-disable at the leaf, dirty together with the
 * soft-dirty software bit.
 */

import { type EntryFormat, FlagBit, leafEntries } from "./entry-format.js";
import { PageFlag } from "./page-table.js";
import { type TableEnvironment, TableWriter } from "./table-writer.js";
import { X86_PDE_2M, X86_PDPTE_1G, X86_PTE, X86_TABLE } from "./x86-64.js";

function attributes(flags: number) {
  const has = (flag: number) => (flags & flag) !== 0;
  const device = has(PageFlag.DEVICE);
  return {
    P: true,
    RW: has(PageFlag.WRITE),
    US: has(PageFlag.USER),
    PCD: device,
    A: has(PageFlag.ACCESSED),
    D: has(PageFlag.DIRTY),
    SW_SPECIAL: has(PageFlag.SPECIAL),
    SW_SOFT_DIRTY: has(PageFlag.DIRTY),
    XD: device || !has(PageFlag.EXEC),
  } as const;
}

const TABLE = X86_TABLE.encode({ P: true, RW: true, US: true, A: true, IGNORED_6: true });
const PS = X86_TABLE.PS.lowMask;

const WRITABLE = new FlagBit(X86_PTE.RW, PageFlag.WRITE);
const NEVER_EXECUTED = new FlagBit(X86_PTE.XD, PageFlag.EXEC);
const USER = new FlagBit(X86_PTE.US, PageFlag.USER);
const ACCESSED = new FlagBit(X86_PTE.A, PageFlag.ACCESSED);
const DIRTY = new FlagBit(X86_PTE.D, PageFlag.DIRTY);
const SPECIAL = new FlagBit(X86_PTE.SW_SPECIAL, PageFlag.SPECIAL);
const UNCACHED = new FlagBit(X86_PTE.PCD, PageFlag.DEVICE);

/** The format of x86-64's user page tables. */
export const X86_64: EntryFormat = {
  format: "x86-64",
  mair: 0n,
  addressHi: X86_PTE.ADDR.highMask,
  tableHi: TABLE[1],
  tableLo: TABLE[0],
  leaves: [
    leafEntries((flags) => X86_PTE.encode(attributes(flags))),
    leafEntries((flags) => X86_PDE_2M.encode({ ...attributes(flags), PS: true })),
    leafEntries((flags) => X86_PDPTE_1G.encode({ ...attributes(flags), PS: true })),
  ],
  levelNames: ["PTE", "PDE", "PDPTE", "PML4E", "PML5E"],
  isBlock: (lo) => (lo & PS) !== 0,
  flagsOf: (hi, lo) =>
    WRITABLE.of(hi, lo) |
    (NEVER_EXECUTED.of(hi, lo) ^ PageFlag.EXEC) |
    USER.of(hi, lo) |
    ACCESSED.of(hi, lo) |
    DIRTY.of(hi, lo) |
    SPECIAL.of(hi, lo) |
    UNCACHED.of(hi, lo),
};

/** A process's table as a VT-d PASID table entry's FLPTPTR takes it. @throws IommuError ENOMEM */
export function createX86Table(environment: TableEnvironment, owner: string, levels: 4 | 5 = 4): TableWriter {
  return new TableWriter(environment, X86_64, levels, owner);
}
