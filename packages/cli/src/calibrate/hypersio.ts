/** HyperSIO, ISCA'20: a miss is two trips over PCIe and a nested walk of 24 memory accesses. An SMMUv3 does the walk here. */
import { Access, bareBoard, FirstFitPages, NO_PASID, SlabMemory, Translation, TranslationStatus } from "@iommukit/core";
import {
  CD,
  CR0,
  IoPageTable,
  PageTableQuirk,
  PRESETS,
  Smmuv3Hardware,
  type Smmuv3Preset,
  STE,
  STRTAB_BASE,
  STRTAB_BASE_CFG,
  stageOneControl,
  stageTwoControl,
} from "@iommukit/iommu-smmuv3";
import type { Calibration } from "./finding.js";

/** PrincetonUniversity/hypersio, defines.h: simulated nanoseconds. */
const PCIE_ONE_WAY = 450;
const DRAM = 50;
const NESTED_ACCESSES = 24;
const MISS = 2 * PCIE_ONE_WAY + NESTED_ACCESSES * DRAM;

const RAM = { base: 0x4000_0000, size: 0x100_0000 };
const VA = 0x1234_5678_9000;
const SIZES = { ias: 48, oas: 48, pgsizeBitmap: 0x1000n, coherentWalk: true } as const;
const NO_CACHE = { sets: 0, ways: 0 };
/** Every lookup goes to memory. */
const UNCACHED: Smmuv3Preset = {
  ...PRESETS["mmu-700-like"],
  name: "uncached",
  caches: {
    ...PRESETS["mmu-700-like"].caches,
    ste: NO_CACHE,
    cd: NO_CACHE,
    l1: NO_CACHE,
    tlb: NO_CACHE,
    walk: NO_CACHE,
  },
};

/** Table entries of both stages that one translation reads, with 4 levels of 4 KiB pages in each and nothing cached. */
export function nestedWalkReads(): number {
  const memory = new SlabMemory([RAM]);
  const pages = new FirstFitPages(memory);
  const board = bareBoard(memory);
  const { trace } = board;
  const tables: number[] = [];
  const alloc = (bytes: number) => pages.alloc(Math.ceil(bytes / 4096), "table");
  const source = {
    alloc: (bytes: number) => {
      const pa = alloc(bytes);
      tables.push(pa);
      return pa;
    },
    free: () => {},
  };
  const flush = { addPages: () => {}, flushWalk: () => {} };
  const table = (format: "ARM_64_LPAE_S1" | "ARM_64_LPAE_S2") =>
    new IoPageTable({ ...SIZES, format, quirks: PageTableQuirk.NO_WARN }, memory, source, flush);
  const data = alloc(4096);
  const context = alloc(4096);
  const stage1 = table("ARM_64_LPAE_S1");
  stage1.map(BigInt(VA), data, 4096, 1, 3);
  // Stage 1 stands in intermediate addresses: stage 2 maps them, the context descriptor and the page one to one.
  const intermediate = [...tables, context, data];
  const stage2 = table("ARM_64_LPAE_S2");
  for (const pa of intermediate) stage2.map(BigInt(pa), pa, 4096, 1, 3);

  const streams = alloc(4096);
  const store = (pa: number, words: Int32Array) => {
    for (let word = 0; word < words.length; word += 2) memory.store64(pa + 4 * word, words[word + 1], words[word]);
  };
  const one = stageOneControl(stage1.geometry);
  store(
    context,
    CD.encode({
      T0SZ: one.tsz,
      TG0: one.tg,
      IR0: one.irgn,
      OR0: one.orgn,
      SH0: one.sh,
      EPD1: true,
      V: true,
      IPS: one.ips,
      AA64: true,
      R: true,
      A: true,
      TTB0: stage1.root,
    }),
  );
  const two = stageTwoControl(stage2.geometry);
  store(
    streams,
    STE.encode({
      V: true,
      Config: "nested",
      S1ContextPtr: context,
      S2T0SZ: two.tsz,
      S2SL0: two.sl,
      S2TG: two.tg,
      S2PS: two.ps,
      S2AA64: true,
      S2R: true,
      S2TTB: stage2.root,
    }),
  );
  const chip = new Smmuv3Hardware(board, { name: "smmuv3", preset: UNCACHED });
  chip.write64(STRTAB_BASE.offset, BigInt(streams));
  chip.write32(STRTAB_BASE_CFG.offset, 0);
  chip.write32(CR0.offset, CR0.SMMUEN.lowMask);

  const reads: string[] = [];
  trace.on("table:read", ({ table: name }) => reads.push(name));
  const status = chip.translate(0, NO_PASID, VA / 2 ** 32, VA | 0, Access.READ, new Translation());
  if (status !== TranslationStatus.OK) throw new Error(`the nested translation ended with status ${status}`);
  // What comes before is configuration: the stream table entry, and the context descriptor with its own stage 2 walk.
  return reads.length - 1 - reads.indexOf("CD");
}

export const hypersio: Calibration = {
  name: "hypersio",
  title: "latency of an IOTLB miss with nested translation",
  source: "HyperSIO/HyperTRIO, ISCA'20, PrincetonUniversity/hypersio defines.h",
  run: async () => {
    const reads = nestedWalkReads();
    return [
      {
        what: "memory accesses of a nested walk",
        unit: "",
        published: NESTED_ACCESSES,
        model: reads,
        tolerance: 0,
        how: "counted: table entries that the SMMUv3 chip read, both stages of 4 levels, nothing cached",
      },
      {
        what: "miss",
        unit: "ns",
        published: MISS,
        basis: "arithmetic",
        model: 2 * PCIE_ONE_WAY + reads * DRAM,
        tolerance: 0,
        how: `computed: 2 x ${PCIE_ONE_WAY} ns of PCIe + reads x ${DRAM} ns of DRAM (paper: a simulator's parameters)`,
      },
    ];
  },
};
