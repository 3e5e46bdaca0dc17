/** Masks of the walker's descriptor fields, taken from the field tables once. `*_HI` stands in the upper word. */
import { S1_DESCRIPTOR, S2_DESCRIPTOR, TABLE_DESCRIPTOR } from "../spec/page-table.js";

const s1 = S1_DESCRIPTOR;
const s2 = S2_DESCRIPTOR;
const table = TABLE_DESCRIPTOR;

export const TYPE_VALID = 1;
/** Both bits: a table, or a page at level 3. */
export const TYPE_TABLE = table.Type.lowMask;
/** Bits 47:32 of an address, in the upper word. */
export const ADDRESS_HI = s1.OutputAddress.highMask & table.NextLevelTable.highMask;

export const AF = s1.AF.lowMask;
export const NG = s1.nG.lowMask;
/** AP[1]: EL0 may access. */
export const AP_EL0 = 1 << s1.AP.shift;
/** AP[2]: read-only. */
export const AP_READ_ONLY = 2 << s1.AP.shift;
export const AP_SHIFT = s1.AP.shift;
export const DBM_HI = s1.DBM.lowMask;
export const CONTIGUOUS_HI = s1.Contiguous.lowMask;
export const PXN_HI = s1.PXN.lowMask;
export const UXN_HI = s1.UXN.lowMask;
/** PXN, and UXN above it. */
export const PXN_HI_SHIFT = s1.PXN.shift;

/** S2AP[0] and S2AP[1]. */
export const S2AP_READ = 1 << s2.S2AP.shift;
export const S2AP_WRITE = 2 << s2.S2AP.shift;
/** XN[0] and XN[1]. */
export const S2XN0_HI = 1 << s2.XN.shift;
export const S2XN1_HI = 2 << s2.XN.shift;
/** MemAttr[3:2] = 0 is Device memory; with S2FWB, MemAttr[2] = 0. */
export const S2_MEMATTR_NORMAL = 12 << s2.MemAttr.shift;
export const S2_MEMATTR_NORMAL_FWB = 4 << s2.MemAttr.shift;

export const APTABLE_NO_EL0_HI = 1 << table.APTable.shift;
export const APTABLE_READ_ONLY_HI = 2 << table.APTable.shift;
export const PXNTABLE_HI = table.PXNTable.lowMask;
export const UXNTABLE_HI = table.UXNTable.lowMask;
/** Every hierarchical attribute. */
export const HIERARCHICAL_HI = table.APTable.lowMask | PXNTABLE_HI | UXNTABLE_HI;
export const HIERARCHICAL_HI_SHIFT = table.PXNTable.shift;
