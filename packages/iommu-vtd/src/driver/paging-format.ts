/**
 * What a page-table entry of each stage looks like to the driver: second stage (VT-d 9.8) for MAP and UNMAP domains, first
 * stage (VT-d 9.7) where the hardware has only that one. Masks come from the field tables; no other place knows bits.
 */
import { type Field, IommuError, IommuProt } from "@iommukit/core";
import { FIRST_STAGE_ENTRY, SECOND_STAGE_ENTRY } from "../spec/page-table.js";

/** Masks apply to the low 32 bits of an entry. */
export interface PagingFormat {
  readonly name: string;
  /** An entry with any of these bits is present. */
  readonly present: number;
  /** An entry above level 1 with this bit is a leaf. */
  readonly large: number;
  readonly accessed: number;
  readonly dirty: number;
  /** Low bits of an entry that points to a table. */
  readonly table: number;
  /**
   * Low bits of a leaf for IommuProt bits. @param snoop the domain enforces cache coherency
   * @throws IommuError EINVAL when the format cannot express `prot`
   */
  leaf(prot: number, snoop: boolean): number;
}

/** The field's bit in the entry's low word. */
function mask(field: Field): number {
  return field.lowMask;
}

const ss = SECOND_STAGE_ENTRY;
const fs = FIRST_STAGE_ENTRY;

function refuseNoAccess(prot: number): void {
  if ((prot & (IommuProt.READ | IommuProt.WRITE)) === 0)
    throw new IommuError("EINVAL", `a mapping with prot 0x${prot.toString(16)} allows neither reads nor writes`);
}

/** @param writeImpliesRead Linux up to 6.12 sets R in every leaf: a write-only mapping is readable */
export function secondStageFormat(writeImpliesRead: boolean): PagingFormat {
  return {
    name: "second stage",
    present: mask(ss.R) | mask(ss.W),
    large: mask(ss.PS),
    accessed: mask(ss.A),
    dirty: mask(ss.D),
    table: mask(ss.R) | mask(ss.W),
    leaf(prot, snoop) {
      refuseNoAccess(prot);
      const read = prot & IommuProt.READ || writeImpliesRead ? mask(ss.R) : 0;
      const write = prot & IommuProt.WRITE ? mask(ss.W) : 0;
      return read | write | (snoop ? mask(ss.SNP) : 0);
    },
  };
}

/** Present means readable here. Snooping is the PASID entry's business (PGSNP), not the leaf's. */
export const FIRST_STAGE_FORMAT: PagingFormat = {
  name: "first stage",
  present: mask(fs.P),
  large: mask(fs.PS),
  accessed: mask(fs.A),
  dirty: mask(fs.D),
  table: mask(fs.P) | mask(fs.RW) | mask(fs.US) | mask(fs.A),
  leaf(prot) {
    refuseNoAccess(prot);
    const write = prot & IommuProt.WRITE ? mask(fs.RW) | mask(fs.D) : 0;
    return mask(fs.P) | mask(fs.US) | mask(fs.A) | write;
  },
};
