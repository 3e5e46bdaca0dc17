/** Reads the ID registers: what the hardware has, and a refusal that names the bit when it lacks what the driver needs. */
import { type AnyRegister, type Field, IommuError, type Mmio } from "@iommukit/core";
import { IDR0, IDR1, IDR3, IDR5 } from "../spec/registers.js";
import { PHYSICAL_SIZES } from "./page-table-geometry.js";

/** What one or another part of the driver decides by. Bits and sizes as the ID registers give them. */
export interface Smmuv3Features {
  readonly bigEndianTables: boolean;
  readonly stage1: boolean;
  readonly stage2: boolean;
  readonly twoLevelStreamTable: boolean;
  readonly twoLevelCdTable: boolean;
  readonly ats: boolean;
  readonly pri: boolean;
  readonly sev: boolean;
  readonly msi: boolean;
  readonly hyp: boolean;
  readonly coherent: boolean;
  /** IDR0.HTTU: 0 none, 1 access flag, 2 dirty state too. */
  readonly httu: number;
  readonly stalls: boolean;
  readonly stallForce: boolean;
  readonly attributeTypesOverride: boolean;
  readonly rangeInvalidation: boolean;
  readonly forceWriteBack: boolean;
  readonly wideVirtual: boolean;
  readonly asidBits: number;
  readonly vmidBits: number;
  readonly sidBits: number;
  readonly ssidBits: number;
  readonly cmdqShift: number;
  readonly evtqShift: number;
  readonly priqShift: number;
  readonly pgsizeBitmap: bigint;
  readonly oas: number;
}

/** Commands that one batch may hold: the queue has to take it and a CMD_SYNC (CMDQ_BATCH_ENTRIES). */
export const BATCH_COMMANDS = 64;

/** StreamID bits that one level-2 stream table resolves. */
export const STREAM_TABLE_SPLIT = 8;

const SIZES_4K = 0x4020_1000n;
const SIZES_16K = 0x200_4000n;
const SIZES_64K = 0x2001_0000n;
const SIZE_4T = 1n << 42n;

class IdRegisters {
  constructor(
    private readonly mmio: Mmio,
    private readonly name: string,
  ) {}

  get(register: AnyRegister, field: Field): number {
    return field.get(Int32Array.of(this.mmio.read32(register.offset) | 0));
  }

  flag(register: AnyRegister, field: Field): boolean {
    return this.get(register, field) !== 0;
  }

  refuse(register: AnyRegister, field: Field, why: string): never {
    const value = this.get(register, field);
    const named = field.nameOf(value) ?? `${value}`;
    throw new IommuError("ENODEV", `${this.name}: ${register.name}.${field.name} is ${named}: ${why}`);
  }
}

/** @throws IommuError ENODEV: the hardware cannot be driven; the message names the register's field */
export function probe(mmio: Mmio, options: { readonly name: string; readonly coherent?: boolean }): Smmuv3Features {
  const id = new IdRegisters(mmio, options.name);
  if ((id.get(IDR0, IDR0.TTENDIAN) & 1) !== 0)
    id.refuse(IDR0, IDR0.TTENDIAN, "little-endian translation tables are needed");
  if (!id.flag(IDR0, IDR0.S1P) && !id.flag(IDR0, IDR0.S2P))
    id.refuse(IDR0, IDR0.S1P, "and IDR0.S2P too: nothing translates");
  if ((id.get(IDR0, IDR0.TTF) & 2) === 0) id.refuse(IDR0, IDR0.TTF, "AArch64 translation tables are needed");
  for (const field of [IDR1.TABLES_PRESET, IDR1.QUEUES_PRESET, IDR1.REL]) {
    if (id.flag(IDR1, field)) id.refuse(IDR1, field, "embedded implementations are not supported");
  }
  if (2 ** id.get(IDR1, IDR1.CMDQS) <= BATCH_COMMANDS) {
    id.refuse(IDR1, IDR1.CMDQS, `a batch of ${BATCH_COMMANDS} commands and its CMD_SYNC do not fit the queue`);
  }
  const pgsizeBitmap = granules(id);
  if (pgsizeBitmap === 0n) id.refuse(IDR5, IDR5.GRAN4K, "as are IDR5.GRAN16K and IDR5.GRAN64K: no page size is left");
  const stallModel = id.get(IDR0, IDR0.STALL_MODEL);
  const sidBits = id.get(IDR1, IDR1.SIDSIZE);
  return {
    bigEndianTables: id.get(IDR0, IDR0.TTENDIAN) === 0,
    stage1: id.flag(IDR0, IDR0.S1P),
    stage2: id.flag(IDR0, IDR0.S2P),
    twoLevelStreamTable: id.get(IDR0, IDR0.ST_LEVEL) === 1 && sidBits > STREAM_TABLE_SPLIT,
    twoLevelCdTable: id.flag(IDR0, IDR0.CD2L),
    ats: id.flag(IDR0, IDR0.ATS),
    pri: id.flag(IDR0, IDR0.PRI),
    sev: id.flag(IDR0, IDR0.SEV),
    msi: id.flag(IDR0, IDR0.MSI),
    hyp: id.flag(IDR0, IDR0.HYP),
    coherent: options.coherent ?? id.flag(IDR0, IDR0.COHACC),
    httu: id.get(IDR0, IDR0.HTTU),
    stalls: stallModel === 0 || stallModel === 2,
    stallForce: stallModel === 2,
    attributeTypesOverride: id.flag(IDR1, IDR1.ATTR_TYPES_OVR),
    rangeInvalidation: id.flag(IDR3, IDR3.RIL),
    forceWriteBack: id.flag(IDR3, IDR3.FWB),
    wideVirtual: id.get(IDR5, IDR5.VAX) === 1,
    asidBits: id.flag(IDR0, IDR0.ASID16) ? 16 : 8,
    vmidBits: id.flag(IDR0, IDR0.VMID16) ? 16 : 8,
    sidBits,
    ssidBits: id.get(IDR1, IDR1.SSIDSIZE),
    cmdqShift: id.get(IDR1, IDR1.CMDQS),
    evtqShift: id.get(IDR1, IDR1.EVENTQS),
    priqShift: id.get(IDR1, IDR1.PRIQS),
    pgsizeBitmap,
    // Sizes that this driver does not know are used as 48 bits.
    oas: PHYSICAL_SIZES[id.get(IDR5, IDR5.OAS)] ?? 48,
  };
}

function granules(id: IdRegisters): bigint {
  let sizes = 0n;
  if (id.flag(IDR5, IDR5.GRAN4K)) sizes |= SIZES_4K;
  if (id.flag(IDR5, IDR5.GRAN16K)) sizes |= SIZES_16K;
  if (id.flag(IDR5, IDR5.GRAN64K)) sizes |= SIZES_64K;
  return sizes !== 0n && PHYSICAL_SIZES[id.get(IDR5, IDR5.OAS)] === 52 ? sizes | SIZE_4T : sizes;
}

/** log2 of the smallest page: the unit of range invalidations and of ATS. */
export function smallestPageShift({ pgsizeBitmap }: Smmuv3Features): number {
  return (pgsizeBitmap & -pgsizeBitmap).toString(2).length - 1;
}
