/**
 * `page-table`: Linux's io-pgtable-arm, run in user space, against the driver's page tables. Every step's return value, TLB
 * calls, warnings and the whole table memory are compared word for word.
 */
import { hex, IommuError, newGather, SlabMemory } from "@iommukit/core";
import { IoPageTable, MAIR, type PageTableFormat, stageOneControl, stageTwoControl } from "@iommukit/iommu-smmuv3";
import type { LoadedFile } from "../load.js";
import type { Report } from "../report.js";

interface Step {
  readonly op: string;
  readonly iova: string;
  readonly pa: string;
  readonly pgsize: string;
  readonly pgcount: number;
  readonly prot: number;
  readonly ret: number | string;
  readonly mapped: string;
  readonly warned: number;
  readonly tlb_ops: readonly Readonly<Record<string, string>>[];
  readonly live_tables: readonly (readonly [string, string])[];
  readonly nonzero_qwords: Readonly<Record<string, string>>;
}

interface Case {
  readonly name: string;
  readonly format: string;
  readonly pgsize_bitmap_in: string;
  readonly pgsize_bitmap_out?: string;
  readonly ias: number;
  readonly oas: number;
  readonly quirks: number;
  readonly coherent_walk: boolean;
  readonly alloc_ok: boolean;
  readonly s1_cfg?: { readonly ttbr: string; readonly tcr: object; readonly mair: string };
  readonly s2_cfg?: { readonly vttbr: string; readonly vtcr: object };
  readonly steps?: readonly Step[];
}

type Groups = Readonly<Record<string, readonly Case[]>>;

interface Document {
  readonly io_pgtable_arm?: Groups;
  /** Of another family of formats: none of them is an SMMUv3's. */
  readonly io_pgtable_arm_v7s?: Groups;
  readonly generic_pt?: { readonly cases?: readonly unknown[] };
}

const FORMATS: readonly string[] = ["ARM_64_LPAE_S1", "ARM_64_LPAE_S2"] satisfies PageTableFormat[];

export const holds = "page tables of io-pgtable-arm";

export function recognises({ document }: LoadedFile): boolean {
  const { io_pgtable_arm = {}, io_pgtable_arm_v7s = {}, generic_pt } = (document ?? {}) as Document;
  const groups: unknown[] = [...Object.values({ ...io_pgtable_arm, ...io_pgtable_arm_v7s }), generic_pt?.cases];
  return groups.some((cases) => Array.isArray(cases) && cases.length > 0);
}

export async function run(files: LoadedFile[], report: Report): Promise<void> {
  const memory = new SlabMemory([{ base: POOL, size: 0x1000_0000 }]);
  for (const file of files) {
    const document = file.document as Document;
    for (const cases of Object.values(document.io_pgtable_arm_v7s ?? {}))
      for (const { format } of cases) report.notApplicable(`page-table format ${format}: no SMMUv3 walks it`);
    for (const [group, cases] of Object.entries(document.io_pgtable_arm ?? {})) {
      for (const [index, test] of Object.entries(cases ?? [])) {
        const { name, format, ias, oas } = test ?? {};
        const where = `${file.name} ${group}[${index}] ${name} ${format} ias ${ias} oas ${oas}`;
        if (format !== undefined && !FORMATS.includes(format))
          report.notApplicable(`page-table format ${format}: no SMMUv3 walks it`);
        else await report.attempt(where, () => new Comparison(test, where, report, memory).run());
      }
    }
    for (const _ of document.generic_pt?.cases ?? []) {
      report.notApplicable("generic page-table property, stated in words: a test of iommu-vtd's second stage holds it");
    }
  }
}

/** Tables come from here, in order and never twice: the allocator of the recorded run. */
const POOL = 0x1000_0000;

class Comparison {
  readonly #live = new Map<number, number>();
  #next = POOL;
  #tlbOps: Record<string, string>[] = [];
  #warnings = 0;
  #differences = 0;

  constructor(
    private readonly test: Case,
    private readonly where: string,
    private readonly report: Report,
    private readonly memory: SlabMemory,
  ) {}

  run(): void {
    try {
      this.#play();
    } finally {
      // The next case's tables come zeroed.
      this.memory.fill(POOL, this.#next - POOL, 0);
    }
    if (this.#differences === 0) this.report.pass();
  }

  #play(): void {
    const table = this.#create();
    for (const [index, step] of (table ? (this.test.steps ?? []) : []).entries()) {
      this.#tlbOps = [];
      this.#warnings = 0;
      this.#step(table as IoPageTable, step, `step ${index} ${step.op} ${step.iova ?? ""}`);
    }
  }

  #expect(what: string, expected: unknown, got: unknown): void {
    const [want, have] = [JSON.stringify(expected), JSON.stringify(got)];
    if (want === have) return;
    if (this.#differences++ === 0) this.report.fail(`${this.where}: ${what}: expected ${want}, got ${have}`);
  }

  #create(): IoPageTable | undefined {
    const { test } = this;
    let table: IoPageTable | undefined;
    try {
      table = new IoPageTable(
        {
          format: test.format as PageTableFormat,
          pgsizeBitmap: BigInt(test.pgsize_bitmap_in),
          ias: test.ias,
          oas: test.oas,
          quirks: test.quirks,
          coherentWalk: test.coherent_walk,
        },
        this.memory,
        { alloc: (bytes) => this.#alloc(bytes), free: (pa) => this.#live.delete(pa) },
        {
          addPages: (_gather, iova, granule, count) => {
            for (let i = 0; i < count; i++) {
              this.#tlbOps.push({ op: "add_page", iova: hex(iova + BigInt(i * granule)), granule: hex(granule) });
            }
          },
          flushWalk: (iova, size, granule) =>
            this.#tlbOps.push({ op: "flush_walk", iova: hex(iova), size: hex(size), granule: hex(granule) }),
        },
        () => {
          this.#warnings++;
        },
      );
    } catch (error) {
      if (!(error instanceof IommuError)) throw error;
    }
    this.#expect("alloc_ok", test.alloc_ok, table !== undefined);
    if (!table || !test.alloc_ok) return undefined;
    const { geometry } = table;
    if (test.pgsize_bitmap_out) this.#expect("pgsize_bitmap", test.pgsize_bitmap_out, hex(geometry.pgsizeBitmap));
    if (test.s1_cfg) {
      this.#expect("ttbr", test.s1_cfg.ttbr, hex(table.root));
      this.#expect("tcr", test.s1_cfg.tcr, stageOneControl(geometry));
      this.#expect("mair", test.s1_cfg.mair, hex(MAIR));
    }
    if (test.s2_cfg) {
      this.#expect("vttbr", test.s2_cfg.vttbr, hex(table.root));
      this.#expect("vtcr", test.s2_cfg.vtcr, stageTwoControl(geometry));
    }
    return table;
  }

  #alloc(bytes: number): number {
    const size = Math.max(bytes, 0x1000);
    const pa = Math.ceil(this.#next / size) * size;
    this.#next = pa + size;
    this.#live.set(pa, size);
    return pa;
  }

  #step(table: IoPageTable, step: Step, what: string): void {
    if (step.op === "memory") {
      this.#compareMemory(step, what);
      return;
    }
    if (step.op === "iova_to_phys") {
      this.#expect(what, step.ret, hex(table.iovaToPhys(BigInt(step.iova)) ?? 0));
      return;
    }
    if (step.op === "map") this.#map(table, step, what);
    else if (step.op === "unmap") {
      const got = table.unmap(BigInt(step.iova), Number(step.pgsize), step.pgcount, newGather());
      this.#expect(`${what} ret`, step.ret, hex(got));
    } else throw new Error(`${what}: no such step is known`);
    this.#expect(`${what} tlb_ops`, step.tlb_ops, this.#tlbOps);
    this.#expect(`${what} warned`, step.warned, this.#warnings);
  }

  #map(table: IoPageTable, step: Step, what: string): void {
    let ret = 0;
    let mapped = 0;
    try {
      mapped = table.map(BigInt(step.iova), Number(step.pa), Number(step.pgsize), step.pgcount, step.prot);
    } catch (error) {
      if (!(error instanceof IommuError)) throw error;
      ret = -error.errno;
    }
    this.#expect(`${what} ret`, step.ret, ret);
    this.#expect(`${what} mapped`, step.mapped, hex(mapped));
  }

  #compareMemory(step: Step, what: string): void {
    const live = [...this.#live].sort(([a], [b]) => a - b);
    this.#expect(
      `${what} live_tables`,
      step.live_tables,
      live.map(([pa, size]) => [hex(pa), hex(size)]),
    );
    const words: Record<string, string> = {};
    for (const [pa, size] of live) {
      const table = new BigUint64Array(size / 8);
      this.memory.readBytes(pa, new Uint8Array(table.buffer));
      for (const [index, value] of table.entries()) if (value !== 0n) words[hex(pa + 8 * index)] = hex(value, 16);
    }
    this.#expect(`${what} memory`, step.nonzero_qwords, words);
  }
}
