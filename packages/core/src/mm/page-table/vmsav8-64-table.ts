/**
 * What Linux on arm64 writes for user pages: normal write-back memory, inner shareable, not global, never executable
 * privileged. Writable is DBM; writable and not yet dirty has AP2 = 1, so that hardware without dirty-bit updates faults
 * and hardware with them clears AP2.
 */

import { PageFlag } from "./page-table.js";
import { type EntryFormat, flagWhen, leafEntries, type TableEnvironment, TableWriter } from "./table-writer.js";
import {
  LINUX_MAIR_EL1,
  MAIR_DEVICE,
  MAIR_NORMAL,
  VMSAV8_BLOCK_1G,
  VMSAV8_BLOCK_2M,
  VMSAV8_PAGE,
  VMSAV8_TABLE,
} from "./vmsav8-64.js";

function attributes(flags: number) {
  const has = (flag: number) => (flags & flag) !== 0;
  const device = has(PageFlag.DEVICE);
  return {
    Valid: true,
    AttrIndx: device ? MAIR_DEVICE : MAIR_NORMAL,
    AP1: has(PageFlag.USER),
    AP2: !(has(PageFlag.WRITE) && has(PageFlag.DIRTY)),
    SH: "innerShareable",
    AF: has(PageFlag.ACCESSED),
    nG: true,
    DBM: has(PageFlag.WRITE),
    PXN: true,
    UXN: device || !has(PageFlag.EXEC),
    SW_DIRTY: has(PageFlag.DIRTY),
    SW_SPECIAL: has(PageFlag.SPECIAL),
  } as const;
}

const TABLE = VMSAV8_TABLE.encode({ Valid: true, Type: "table", PXNTable: true });

export const VMSAV8_64: EntryFormat = {
  format: "vmsav8-64",
  mair: LINUX_MAIR_EL1,
  addressHi: VMSAV8_PAGE.OA.highMask,
  tableHi: TABLE[1],
  tableLo: TABLE[0],
  leaves: [
    leafEntries((flags) => VMSAV8_PAGE.encode({ ...attributes(flags), Type: "page" })),
    leafEntries((flags) => VMSAV8_BLOCK_2M.encode(attributes(flags))),
    leafEntries((flags) => VMSAV8_BLOCK_1G.encode(attributes(flags))),
  ],
  levelNames: ["L3", "L2", "L1", "L0"],
  isBlock: (lo) => (lo & VMSAV8_TABLE.Type.lowMask) === 0,
  flagsOf: (hi, lo) => {
    const { DBM, AP1, AP2, AF, UXN, SW_DIRTY, SW_SPECIAL, AttrIndx } = VMSAV8_PAGE;
    const written = flagWhen(DBM, hi, lo, PageFlag.DIRTY) & ~flagWhen(AP2, hi, lo, PageFlag.DIRTY);
    return (
      flagWhen(DBM, hi, lo, PageFlag.WRITE) |
      (flagWhen(UXN, hi, lo, PageFlag.EXEC) ^ PageFlag.EXEC) |
      flagWhen(AP1, hi, lo, PageFlag.USER) |
      flagWhen(AF, hi, lo, PageFlag.ACCESSED) |
      flagWhen(SW_DIRTY, hi, lo, PageFlag.DIRTY) |
      written |
      flagWhen(SW_SPECIAL, hi, lo, PageFlag.SPECIAL) |
      ((lo & AttrIndx.lowMask) >>> AttrIndx.shift === MAIR_DEVICE ? PageFlag.DEVICE : 0)
    );
  },
};

/** A process's table as an SMMUv3 context descriptor's TTB0 takes it: T0SZ = 16, TG0 = 4 KiB. @throws IommuError ENOMEM */
export function createVmsav8Table(environment: TableEnvironment, owner: string): TableWriter {
  return new TableWriter(environment, VMSAV8_64, 4, owner);
}
