/** Configuration of both chips as software writes it: requesters and PASIDs that all use one address space, and a chip that translates for them. */
import type { ChipPorts, PhysicalMemory, TranslationPort } from "@iommukit/core";
import { PAGE_SIZE } from "@iommukit/core";
import { CD, CR0, Smmuv3Hardware, type Smmuv3Preset, STE, STRTAB_BASE, STRTAB_BASE_CFG } from "@iommukit/iommu-smmuv3";
import {
  GCMD,
  PASID_DIRECTORY_ENTRY,
  PASID_ENTRY,
  RTADDR,
  SM_CONTEXT_ENTRY,
  SM_ROOT_ENTRY,
  VtdHardware,
  type VtdPreset,
} from "@iommukit/iommu-vtd";

export interface Requesters {
  readonly memory: PhysicalMemory;
  /** Contiguous zeroed pages for that many bytes. */
  readonly alloc: (bytes: number) => number;
  /** Requester ids from `first` up. */
  readonly first: number;
  readonly count: number;
  /** PASIDs 1 … pasids, the same for each. */
  readonly pasids: number;
}

const DIRECTORY_SPAN = PAGE_SIZE / PASID_ENTRY.bytes;
const CONTEXTS = PAGE_SIZE / SM_CONTEXT_ENTRY.bytes;

function store(memory: PhysicalMemory, pa: number, words: Int32Array): void {
  for (let i = 0; i < words.length; i += 2) memory.store64(pa + i * 4, words[i + 1], words[i]);
}

/** A linear stream table and one linear table of context descriptors. @returns its address */
export function streamTable({ memory, alloc, first, count, pasids }: Requesters, ttb: number, mair: bigint): number {
  const cdMax = Math.ceil(Math.log2(pasids + 1));
  const cds = alloc(2 ** cdMax * CD.bytes);
  const cd = CD.encode({
    T0SZ: 16,
    TG0: "granule4K",
    EPD1: true,
    V: true,
    IPS: 5,
    AA64: true,
    R: true,
    A: true,
    ASET: true,
    ASID: 1,
    TTB0: ttb,
    MAIR0: Number(mair & 0xffff_ffffn),
    MAIR1: Number(mair >> 32n),
  });
  for (let pasid = 1; pasid <= pasids; pasid++) store(memory, cds + pasid * CD.bytes, cd);
  const ste = STE.encode({ V: true, Config: "s1", S1Fmt: "linear", S1ContextPtr: cds, S1CDMax: cdMax, S1DSS: "ssid0" });
  const table = alloc((first + count) * STE.bytes);
  for (let rid = first; rid < first + count; rid++) store(memory, table + rid * STE.bytes, ste);
  return table;
}

/** Scalable-mode root and context tables, one PASID directory and its tables. @returns the root table's address */
export function rootTable({ memory, alloc, first, count, pasids }: Requesters, fsptptr: number): number {
  const groups = Math.ceil((pasids + 1) / DIRECTORY_SPAN);
  const pdts = Math.max(0, Math.ceil(Math.log2(groups)) - 7);
  const directory = alloc(2 ** (pdts + 7) * PASID_DIRECTORY_ENTRY.bytes);
  const entry = PASID_ENTRY.encode({ P: true, PGTT: "firstStage", DID: 1, FSPM: "fourLevel", FSPTPTR: fsptptr });
  for (let group = 0; group < groups; group++) {
    const entries = alloc(PAGE_SIZE);
    for (let index = 0; index < DIRECTORY_SPAN; index++) {
      const pasid = group * DIRECTORY_SPAN + index;
      if (pasid >= 1 && pasid <= pasids) store(memory, entries + index * PASID_ENTRY.bytes, entry);
    }
    const link = PASID_DIRECTORY_ENTRY.encode({ P: true, SMPTBLPTR: entries });
    store(memory, directory + group * PASID_DIRECTORY_ENTRY.bytes, link);
  }
  const context = SM_CONTEXT_ENTRY.encode({ P: true, PASIDE: true, PDTS: pdts, PASIDDIRPTR: directory });
  const root = alloc(PAGE_SIZE);
  for (let bus = first >> 8; bus <= (first + count - 1) >> 8; bus++) {
    const [lower, upper] = [alloc(PAGE_SIZE), alloc(PAGE_SIZE)];
    const halves = SM_ROOT_ENTRY.encode({ LP: true, LCTP: lower, UP: true, UCTP: upper });
    store(memory, root + bus * SM_ROOT_ENTRY.bytes, halves);
    for (let devfn = 0; devfn < 256; devfn++) {
      const rid = (bus << 8) | devfn;
      const at = (devfn < CONTEXTS ? lower : upper) + (devfn % CONTEXTS) * SM_CONTEXT_ENTRY.bytes;
      if (rid >= first && rid < first + count) store(memory, at, context);
    }
  }
  return root;
}

/** @param sidBits log2 of the stream table's entries */
export function startSmmuv3(ports: ChipPorts, preset: Smmuv3Preset, table: number, sidBits: number): TranslationPort {
  const chip = new Smmuv3Hardware(ports, { name: "smmuv3", preset });
  chip.write64(STRTAB_BASE.offset, BigInt(table));
  chip.write32(STRTAB_BASE_CFG.offset, STRTAB_BASE_CFG.encode({ LOG2SIZE: sidBits, FMT: "linear" })[0]);
  chip.write32(CR0.offset, CR0.encode({ SMMUEN: true })[0]);
  return chip;
}

export function startVtd(ports: ChipPorts, preset: VtdPreset, root: number): TranslationPort {
  const chip = new VtdHardware(ports, { name: "vtd", preset });
  const rtaddr = RTADDR.encode({ TTM: "scalable", RTA: root });
  chip.write32(RTADDR.offset, rtaddr[0]);
  chip.write32(RTADDR.offset + 4, rtaddr[1]);
  chip.write32(GCMD.offset, GCMD.encode({ SRTP: true })[0]);
  chip.write32(GCMD.offset, GCMD.encode({ TE: true })[0]);
  return chip;
}
