/**
 * What Linux on x86-64 writes for user pages: US on every level, execute-disable at the leaf, dirty together with the
 * soft-dirty software bit.
 */
import { PageFlag } from "./page-table.js";
import { type EntryFormat, flagWhen, leafEntries, type TableEnvironment, TableWriter } from "./table-writer.js";
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
  isBlock: (lo) => (lo & X86_TABLE.PS.lowMask) !== 0,
  flagsOf: (hi, lo) => {
    const { RW, US, PCD, A, D, SW_SPECIAL, XD } = X86_PTE;
    return (
      flagWhen(RW, hi, lo, PageFlag.WRITE) |
      (flagWhen(XD, hi, lo, PageFlag.EXEC) ^ PageFlag.EXEC) |
      flagWhen(US, hi, lo, PageFlag.USER) |
      flagWhen(A, hi, lo, PageFlag.ACCESSED) |
      flagWhen(D, hi, lo, PageFlag.DIRTY) |
      flagWhen(SW_SPECIAL, hi, lo, PageFlag.SPECIAL) |
      flagWhen(PCD, hi, lo, PageFlag.DEVICE)
    );
  },
};

/** A process's table as a VT-d PASID table entry's FLPTPTR takes it. @throws IommuError ENOMEM */
export function createX86Table(environment: TableEnvironment, owner: string, levels: 4 | 5 = 4): TableWriter {
  return new TableWriter(environment, X86_64, levels, owner);
}
