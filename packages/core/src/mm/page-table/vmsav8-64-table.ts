/**
 * What Linux on arm64 writes for user pages: normal write-back memory, inner shareable, not global, never executable
 * privileged. Writable is DBM; writable and not yet dirty has AP2 = 1, so that hardware without dirty-bit updates faults
 * and hardware with them clears AP2.
 */

import { type EntryFormat, FlagBit, leafEntries } from "./entry-format.js";
import { PageFlag } from "./page-table.js";
import { type TableEnvironment, TableWriter } from "./table-writer.js";
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
const TYPE = VMSAV8_TABLE.Type.lowMask;
const ATTR_INDX = VMSAV8_PAGE.AttrIndx.lowMask;
const DEVICE = MAIR_DEVICE << VMSAV8_PAGE.AttrIndx.shift;

const WRITABLE = new FlagBit(VMSAV8_PAGE.DBM, PageFlag.WRITE);
const NEVER_EXECUTED = new FlagBit(VMSAV8_PAGE.UXN, PageFlag.EXEC);
const UNPRIVILEGED = new FlagBit(VMSAV8_PAGE.AP1, PageFlag.USER);
const ACCESSED = new FlagBit(VMSAV8_PAGE.AF, PageFlag.ACCESSED);
const DIRTY = new FlagBit(VMSAV8_PAGE.SW_DIRTY, PageFlag.DIRTY);
const SPECIAL = new FlagBit(VMSAV8_PAGE.SW_SPECIAL, PageFlag.SPECIAL);
/** Hardware's dirty state: DBM set and AP2 clear. */
const MODIFIER = new FlagBit(VMSAV8_PAGE.DBM, PageFlag.DIRTY);
const READ_ONLY = new FlagBit(VMSAV8_PAGE.AP2, PageFlag.DIRTY);

/** The format of arm64's user page tables. */
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
  isBlock: (lo) => (lo & TYPE) === 0,
  flagsOf: (hi, lo) =>
    WRITABLE.of(hi, lo) |
    (NEVER_EXECUTED.of(hi, lo) ^ PageFlag.EXEC) |
    UNPRIVILEGED.of(hi, lo) |
    ACCESSED.of(hi, lo) |
    DIRTY.of(hi, lo) |
    (MODIFIER.of(hi, lo) & ~READ_ONLY.of(hi, lo)) |
    SPECIAL.of(hi, lo) |
    ((lo & ATTR_INDX) === DEVICE ? PageFlag.DEVICE : 0),
};

/** A process's table as an SMMUv3 context descriptor's TTB0 takes it: T0SZ = 16, TG0 = 4 KiB. @throws IommuError ENOMEM */
export function createVmsav8Table(environment: TableEnvironment, owner: string): TableWriter {
  return new TableWriter(environment, VMSAV8_64, 4, owner);
}
