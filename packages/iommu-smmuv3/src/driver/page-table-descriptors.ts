/** Descriptors as the driver writes them: what IOMMU_* protection becomes, and where a 52-bit address goes (DDI0487 D8.3). */
import { hiOf, IommuProt, loOf, type PhysicalMemory, TWO32 } from "@iommukit/core";
import { DESCRIPTOR_TYPE, S1_DESCRIPTOR, S2_DESCRIPTOR, TABLE_DESCRIPTOR } from "../spec/page-table.js";
import {
  MAIR_INDEX,
  MAX_LEVELS,
  type PageTableConfig,
  type PageTableGeometry,
  PageTableQuirk,
} from "./page-table-geometry.js";

/** MemAttr of a stage-2 descriptor (DDI0487 D8.6.6; the last one with STE.S2FWB). */
const MEM_ATTR = { DEVICE_nGnRE: 0b0001, NORMAL_NC: 0b0101, NORMAL_WB: 0b1111, FORCE_WB: 0b0110 } as const;
/** Set by software in a table descriptor of a non-coherent walker once it has been written back. */
const SW_SYNC = 1 << 4;

/** Attribute bits of leaf descriptors by protection, made once per protection. */
export class LeafAttributes {
  /** The selected descriptor without its address. */
  hi = 0;
  lo = 0;
  readonly #made = new Map<number, Int32Array>();

  constructor(private readonly config: PageTableConfig) {}

  /** @param prot IommuProt bits. @param page whether the entry is in a last-level table */
  select(prot: number, page: boolean): void {
    const key = (prot << 1) | (page ? 1 : 0);
    let words = this.#made.get(key);
    if (words === undefined) {
      const type = page ? DESCRIPTOR_TYPE.tableOrPage : DESCRIPTOR_TYPE.block;
      words = this.config.format === "ARM_64_LPAE_S1" ? this.#stageOne(prot, type) : this.#stageTwo(prot, type);
      this.#made.set(key, words);
    }
    this.lo = words[0];
    this.hi = words[1];
  }

  #stageOne(prot: number, type: number): Int32Array {
    const { quirks } = this.config;
    const readOnly = (prot & IommuProt.WRITE) === 0;
    const unprivileged = (prot & IommuProt.PRIV) === 0;
    const noExec = (prot & IommuProt.NOEXEC) !== 0;
    return S1_DESCRIPTOR.encode({
      Type: type,
      AttrIndx: prot & IommuProt.MMIO ? MAIR_INDEX.DEVICE : prot & IommuProt.CACHE ? MAIR_INDEX.CACHE : MAIR_INDEX.NC,
      NS: (quirks & PageTableQuirk.ARM_NS) !== 0,
      AP: (readOnly ? 2 : 0) | (unprivileged ? 1 : 0),
      SH: prot & IommuProt.CACHE ? "inner" : "outer",
      AF: true,
      nG: true,
      DBM: !readOnly && (quirks & PageTableQuirk.ARM_HD) !== 0,
      PXN: noExec,
      UXN: noExec,
    });
  }

  #stageTwo(prot: number, type: number): Int32Array {
    const writeBack = this.config.quirks & PageTableQuirk.ARM_S2FWB ? MEM_ATTR.FORCE_WB : MEM_ATTR.NORMAL_WB;
    const cached = prot & IommuProt.CACHE ? writeBack : MEM_ATTR.NORMAL_NC;
    return S2_DESCRIPTOR.encode({
      Type: type,
      MemAttr: prot & IommuProt.MMIO ? MEM_ATTR.DEVICE_nGnRE : cached,
      S2AP: (prot & IommuProt.READ ? 1 : 0) | (prot & IommuProt.WRITE ? 2 : 0),
      SH: prot & IommuProt.CACHE ? "inner" : "outer",
      AF: true,
      XN: prot & IommuProt.NOEXEC ? 0b11 : 0,
    });
  }
}

const ADDRESS_LO = TABLE_DESCRIPTOR.NextLevelTable.lowMask;
const ADDRESS_HI = TABLE_DESCRIPTOR.NextLevelTable.highMask;
const TYPE = TABLE_DESCRIPTOR.Type.lowMask;
const LAST_LEVEL = MAX_LEVELS - 1;

/** Table descriptors, and the addresses in all of them: with 64 KiB granules, bits 51:48 stand in 15:12. */
export class TableDescriptor {
  readonly #wide: boolean;
  readonly #lo: number;
  readonly #hi: number;

  constructor({ granule, config }: PageTableGeometry) {
    this.#wide = granule === 0x1_0000;
    const words = TABLE_DESCRIPTOR.encode({
      Type: DESCRIPTOR_TYPE.tableOrPage,
      IGNORED1: config.coherentWalk ? 0 : SW_SYNC,
      NSTable: (config.quirks & PageTableQuirk.ARM_NS) !== 0,
    });
    this.#lo = words[0];
    this.#hi = words[1];
  }

  lowAddress(pa: number): number {
    const lo = loOf(pa) & ADDRESS_LO;
    return this.#wide ? lo | ((hiOf(pa) >>> 4) & 0xf000) : lo;
  }

  highAddress(pa: number): number {
    return hiOf(pa) & ADDRESS_HI;
  }

  /** The address in a table or leaf descriptor. */
  target(hi: number, lo: number): number {
    const high = hi & ADDRESS_HI;
    if (!this.#wide) return high * TWO32 + ((lo & ADDRESS_LO) >>> 0);
    return (high | ((lo & 0xf000) << 4)) * TWO32 + ((lo & 0xffff_0000) >>> 0);
  }

  isLeaf(lo: number, level: number): boolean {
    return (lo & TYPE) === (level === LAST_LEVEL ? DESCRIPTOR_TYPE.tableOrPage : DESCRIPTOR_TYPE.block);
  }

  isTable(lo: number, level: number): boolean {
    return level < LAST_LEVEL && (lo & TYPE) === DESCRIPTOR_TYPE.tableOrPage;
  }

  store(memory: PhysicalMemory, entry: number, table: number): void {
    memory.store64(entry, this.highAddress(table) | this.#hi, this.lowAddress(table) | this.#lo);
  }
}
