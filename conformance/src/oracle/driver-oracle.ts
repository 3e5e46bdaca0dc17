/**
 * One of our drivers drives QEMU's IOMMU: random maps, unmaps and moves between domains, with DMA of QEMU's `edu` device in
 * between. Each DMA must reach the byte that a table of the mappings says, or be reported by the driver as the fault that it
 * is. What was unmapped must be unreachable at once. A backend says what its machine and its faults look like.
 */
import {
  createBoard,
  Device,
  type IommuDomain,
  type IommuOps,
  IommuProt,
  Kernel,
  type MemoryRegion,
  newGather,
  PageAllocator,
  type PciFunction,
  Random,
  Scheduler,
} from "@iommukit/core";
import type { DependencyContainer } from "tsyringe";
import type { Report } from "../report.js";
import { EDU_BUFFER_SIZE, Edu } from "./edu.js";
import type { Qtest } from "./qtest.js";
import { QtestMemory } from "./qtest-board.js";

const PAGE = 0x1000;
const BLOCK = 0x20_0000;
const FRAMES = 2 * BLOCK;
/** Cases between two moves to another domain. */
const CASES_PER_DOMAIN = 50;
const FIRST_WORD = 0xc0de_0000;
/** Pages that random addresses are in: at the start of the address space, and at its end. */
const NEIGHBOURHOOD = 2048;

export interface Mapping {
  readonly pa: number;
  readonly size: number;
  readonly prot: number;
}

export interface DriverMachine {
  readonly qtest: Qtest;
  readonly ram: MemoryRegion;
  /** Where BAR 0 of the edu device is; configured. */
  readonly bar: number;
  readonly pci: PciFunction;
}

/** A driver that can be started and stopped. */
export interface DrivenOps extends IommuOps {
  start(): Promise<void>;
  stop(): Promise<void>;
}

export abstract class DriverOracle<Kind extends string> {
  protected readonly qtest: Qtest;
  protected readonly board: DependencyContainer;
  protected readonly scheduler: Scheduler;
  protected readonly kernel: Kernel;
  protected readonly device: Device;
  protected readonly random: Random;
  protected kind!: Kind;
  readonly #pages: PageAllocator;
  readonly #edu: Edu;
  readonly #mappings = new Map<bigint, Mapping>();
  #domain: IommuDomain | undefined;
  /** What mappings point to. */
  #frames = 0;

  constructor(
    { qtest, ram, bar, pci }: DriverMachine,
    seed: number,
    private readonly report: Report,
  ) {
    this.qtest = qtest;
    this.random = new Random(seed);
    this.board = createBoard({ memory: new QtestMemory(qtest, [ram]) });
    this.scheduler = this.board.resolve(Scheduler);
    this.kernel = this.board.resolve(Kernel);
    this.#pages = this.board.resolve(PageAllocator);
    this.#edu = new Edu(qtest, bar);
    this.device = new Device(pci.bdf, pci.rid, pci);
  }

  protected abstract readonly driver: DrivenOps;
  protected abstract readonly kinds: readonly Kind[];
  protected abstract newDomain(kind: Kind): IommuDomain;
  /** What mapped domains are of; others are "identity" and "blocked". */
  protected abstract isMapped(kind: Kind): boolean;
  /** What the driver prints for a DMA that may not be done, lines joined with "|"; `mapping` is what stands at `iova`. */
  protected abstract faultLines(iova: bigint, write: boolean, mapping: Mapping | undefined): string;
  /** Passes QEMU's signals on to the driver and lets it work. */
  protected abstract settle(): Promise<void>;
  /** What it printed about faults since the last call. */
  protected abstract takeFaults(): string;
  /** A known deviation of QEMU explains why a fault was reported otherwise; `mapping` is what stands at the address. */
  protected isQuirk(_write: boolean, _mapping: Mapping | undefined, _got: string): boolean {
    return false;
  }

  get #current(): IommuDomain {
    if (!this.#domain) throw new Error("the device is on no domain");
    return this.#domain;
  }

  async run(cases: number): Promise<void> {
    await this.scheduler.run(async () => {
      this.#fillDevice();
      await this.driver.start();
      await this.driver.probeDevice(this.device);
      this.kernel.log.splice(0);
      for (let done = 0; done < cases; done++) {
        if (done % CASES_PER_DOMAIN === 0) await this.#moveTo(this.random.pick(this.kinds));
        const difference = await this.#case();
        if (difference === undefined) this.report.pass();
        else this.report.fail(`case ${done} (${this.kind}): ${difference}`);
      }
      await this.driver.detachDev(this.#current, this.device);
      this.driver.domainFree(this.#current);
      await this.driver.releaseDevice(this.device);
      await this.driver.stop();
      this.#pages.free(this.#frames);
      const left = [...this.#pages.usage().keys()];
      if (left.length > 0) this.report.fail(`the driver keeps ${left.join(", ")}`);
    }, "oracle");
  }

  /** The device's buffer can only be filled by a DMA: word i of it is FIRST_WORD + i. */
  #fillDevice(): void {
    this.#frames = this.#pages.alloc(FRAMES / PAGE, "frames", BLOCK);
    const words = Uint32Array.from({ length: EDU_BUFFER_SIZE / 4 }, (_, i) => FIRST_WORD + i);
    this.qtest.write(this.#frames, new Uint8Array(words.buffer));
    this.#edu.load(BigInt(this.#frames));
    this.qtest.flush();
  }

  async #moveTo(kind: Kind): Promise<void> {
    const before = this.#domain;
    const domain = this.newDomain(kind);
    await this.driver.attachDev(domain, this.device);
    if (before) this.driver.domainFree(before);
    this.#domain = domain;
    this.kind = kind;
    this.#mappings.clear();
  }

  async #case(): Promise<string | undefined> {
    if (this.isMapped(this.kind)) {
      if (this.#mappings.size > 0 && this.random.below(3) === 0) await this.#unmapOne();
      else await this.#mapOne();
    }
    const iova = this.#someAddress();
    return this.random.below(2) === 0 ? this.#checkWrite(iova) : this.#checkRead(iova);
  }

  #someAddress(): bigint {
    if (this.kind === "identity") return BigInt(this.#frames + 4 * this.random.below(BLOCK / 4));
    const known = [...this.#mappings];
    if (known.length > 0 && this.random.below(4) !== 0) {
      const [start, { size }] = this.random.pick(known);
      return start + BigInt(4 * this.random.below(size / 4));
    }
    return this.#pageAddress() + BigInt(4 * this.random.below(PAGE / 4));
  }

  /** In a small part of the space, so that mappings share tables, or at its end. */
  #pageAddress(): bigint {
    const { end } = this.#current.aperture;
    const page = BigInt(PAGE * this.random.below(NEIGHBOURHOOD));
    const atEnd = this.random.below(4) === 0 && this.isMapped(this.kind);
    return atEnd ? end + 1n - BigInt(NEIGHBOURHOOD * PAGE) + page : page;
  }

  async #mapOne(): Promise<void> {
    const block = this.random.below(4) === 0;
    const size = block ? BLOCK : PAGE;
    const iova = this.#pageAddress() & ~BigInt(size - 1);
    if (this.#find(iova, size)) return;
    const both = IommuProt.READ | IommuProt.WRITE;
    const prot = this.random.pick([IommuProt.READ, both, both]);
    const pa = this.#frames + (block ? 0 : PAGE * this.random.below(FRAMES / PAGE));
    this.driver.map(this.#current, iova, pa, size, 1, prot);
    await this.driver.iotlbSyncMap(this.#current, iova, BigInt(size));
    this.#mappings.set(iova, { pa, size, prot });
  }

  async #unmapOne(): Promise<void> {
    const [iova, { size }] = this.random.pick([...this.#mappings]);
    const gather = newGather();
    this.driver.unmap(this.#current, iova, size, 1, gather);
    await this.driver.iotlbSync(this.#current, gather);
    this.#mappings.delete(iova);
  }

  #find(iova: bigint, size: number): { readonly start: bigint; readonly mapping: Mapping } | undefined {
    for (const [start, mapping] of this.#mappings) {
      if (iova < start + BigInt(mapping.size) && start < iova + BigInt(size)) return { start, mapping };
    }
    return undefined;
  }

  /** Where a DMA must arrive, or the lines that must come instead. */
  #expect(iova: bigint, write: boolean): number | string {
    if (this.kind === "identity") return Number(iova);
    const found = this.#find(iova, 4);
    const wanted = write ? IommuProt.WRITE : IommuProt.READ;
    if (!found || (found.mapping.prot & wanted) === 0) return this.faultLines(iova, write, found?.mapping);
    return found.mapping.pa + Number(iova - found.start);
  }

  async #checkWrite(iova: bigint): Promise<string | undefined> {
    const expected = this.#expect(iova, true);
    const word = this.random.below(EDU_BUFFER_SIZE / 4 - 8);
    if (typeof expected === "number") this.qtest.writel(expected, 0);
    this.#edu.dma(iova, 4 * word, 4, true);
    const faults = await this.#faults();
    if (typeof expected === "string") return this.#differs(iova, true, expected, faults);
    const got = this.qtest.readl(expected);
    const want = FIRST_WORD + word;
    if (faults === "" && got === want) return undefined;
    return `write to ${hex(iova)}: expected ${hex(want)} at ${hex(expected)}, got ${hex(got)} ${faults}`;
  }

  /** What the device read is seen when it writes it again, through a mapping that it may write to. */
  async #checkRead(iova: bigint): Promise<string | undefined> {
    const expected = this.#expect(iova, false);
    const offset = EDU_BUFFER_SIZE - 16;
    const value = this.random.below(2 ** 31);
    if (typeof expected === "number") this.qtest.writel(expected, value);
    this.#edu.dma(iova, offset, 4, false);
    const faults = await this.#faults();
    const wanted = typeof expected === "string" ? expected : "";
    const difference = this.#differs(iova, false, wanted, faults);
    if (difference !== undefined || typeof expected === "string") return difference;
    const back = [...this.#mappings].find(([, { prot }]) => (prot & IommuProt.WRITE) !== 0);
    if (!back) return undefined;
    this.#edu.dma(back[0], offset, 4, true);
    const got = this.qtest.readl(back[1].pa);
    return got === value ? undefined : `read of ${hex(iova)}: expected ${hex(value)}, got ${hex(got)}`;
  }

  async #faults(): Promise<string> {
    await this.settle();
    return this.takeFaults();
  }

  #differs(iova: bigint, write: boolean, expected: string, got: string): string | undefined {
    if (expected === got || this.isQuirk(write, this.#find(iova, 4)?.mapping, got)) return undefined;
    return `${write ? "write to" : "read of"} ${hex(iova)}: expected "${expected}", got "${got}"`;
  }
}

function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}
