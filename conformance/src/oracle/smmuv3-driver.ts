/**
 * `oracle smmuv3 --mode driver`: our SMMUv3 driver brings up and drives QEMU's SMMUv3. Random maps, unmaps and moves between domains
 * (stage 1, stage 2, identity, blocked), with DMA of QEMU's `edu` device in between; each DMA must reach the byte that a table of
 * the mappings says, or be reported by the driver as the fault that it is. What was unmapped must be unreachable at once.
 */
import {
  createBoard,
  Device,
  InterruptController,
  type IommuDomain,
  IommuProt,
  Kernel,
  Mmio,
  newGather,
  PageAllocator,
  Random,
  Scheduler,
} from "@iommukit/core";
import { Smmuv3Driver, Smmuv3DriverOptions } from "@iommukit/iommu-smmuv3";
import type { DependencyContainer } from "tsyringe";
import type { OracleRequest } from "../oracles.js";
import type { Report } from "../report.js";
import { EDU_BUFFER_SIZE, Edu } from "./edu.js";
import { Qtest } from "./qtest.js";
import { QtestMemory, QtestMmio, QtestPciFunction, QtestWires } from "./qtest-board.js";

/** The `virt` machine of QEMU 11. */
const SMMU = 0x0905_0000;
const ECAM = 0x40_1000_0000;
const BAR = 0x1000_0000;
const RAM = { base: 0x4100_0000, size: 0x1000_0000 } as const;
const GIC = "/machine/unattached/device[1]";
const EDU_RID = 0x10;
const LINES = new Map([
  [74, "smmuv3.eventq"],
  [75, "smmuv3.priq"],
  [76, "smmuv3.cmd-sync"],
  [77, "smmuv3.gerror"],
]);

/**
 * Where QEMU 11.1 does otherwise than the architecture, as far as this driver sees it. Applied to what is expected, never to the driver.
 * - s2IpaLowBits: the IPA of a stage-2 event has the page offset in bits that are RES0 (7.3.13).
 * - s2HitPermission: a stage-2 permission fault on a TLB hit is taken for stage 1's, and CD.R = 0 leaves it unrecorded.
 */
export const QEMU_DRIVER_QUIRKS = { s2IpaLowBits: true, s2HitPermission: true } as const;

const PAGE = 0x1000;
const BLOCK = 0x20_0000;
/** Cases between two resets of the log and the machine's tables. */
const CASES_PER_ROUND = 50;
const FIRST_WORD = 0xc0de_0000;

interface Mapping {
  readonly pa: number;
  readonly size: number;
  readonly prot: number;
}

type Kind = "s1" | "s2" | "identity" | "blocked";
const KINDS: readonly Kind[] = ["s1", "s1", "s2", "identity", "blocked"];

export async function runDriver(request: OracleRequest, report: Report): Promise<void> {
  const machine = ["-M", "virt,iommu=smmuv3,gic-version=3", "-cpu", "max", "-m", "512", "-net", "none"];
  const qtest = new Qtest("aarch64", [...machine, "-device", "edu,dma_mask=0xffffffffffffffff,addr=02.0"]);
  try {
    await new DriverOracle(qtest, request.seed, report).run(request.cases);
  } finally {
    qtest.close();
  }
}

class DriverOracle {
  readonly #random: Random;
  readonly #memory: QtestMemory;
  readonly #wires: QtestWires;
  readonly #board: DependencyContainer;
  readonly #scheduler: Scheduler;
  readonly #kernel: Kernel;
  readonly #pages: PageAllocator;
  readonly #edu: Edu;
  readonly #driver: Smmuv3Driver;
  readonly #device: Device;
  readonly #mappings = new Map<bigint, Mapping>();
  #domain!: IommuDomain;
  #kind: Kind = "s1";
  /** Frames that mappings point to. */
  #frames = 0;

  constructor(
    private readonly qtest: Qtest,
    seed: number,
    private readonly report: Report,
  ) {
    this.#random = new Random(seed);
    this.#memory = new QtestMemory(qtest, [RAM]);
    this.#board = createBoard({ memory: this.#memory });
    this.#wires = new QtestWires(qtest, GIC, LINES, this.#board.resolve(InterruptController));
    this.#board.registerInstance<Mmio>(Mmio, new QtestMmio(qtest, SMMU));
    this.#board.registerInstance<Smmuv3DriverOptions>(Smmuv3DriverOptions, { name: "smmuv3" });
    this.#scheduler = this.#board.resolve(Scheduler);
    this.#kernel = this.#board.resolve(Kernel);
    this.#pages = this.#board.resolve(PageAllocator);
    this.#driver = this.#board.resolve(Smmuv3Driver);
    this.#edu = new Edu(qtest, BAR);
    const pci = new QtestPciFunction(qtest, ECAM, EDU_RID, "0000:00:02.0");
    pci.writeConfig(0x10, 4, BAR);
    pci.writeConfig(0x04, 2, 6);
    this.#device = new Device(pci.bdf, pci.rid, pci);
  }

  async run(cases: number): Promise<void> {
    await this.#scheduler.run(async () => {
      this.#fillDevice();
      await this.#driver.start();
      await this.#driver.probeDevice(this.#device);
      this.#kernel.log.splice(0);
      for (let done = 0; done < cases; done++) {
        if (done % CASES_PER_ROUND === 0) await this.#moveTo(this.#random.pick(KINDS));
        const difference = await this.#case();
        if (difference === undefined) this.report.pass();
        else this.report.fail(`case ${done} (${this.#kind}): ${difference}`);
      }
      await this.#driver.detachDev(this.#domain, this.#device);
      this.#driver.domainFree(this.#domain);
      await this.#driver.releaseDevice(this.#device);
      await this.#driver.stop();
      this.#pages.free(this.#frames);
      const left = [...this.#pages.usage().keys()];
      if (left.length > 0) this.report.fail(`the driver keeps ${left.join(", ")}`);
    }, "oracle");
  }

  /** The device's buffer can only be filled by a DMA: word i of it is FIRST_WORD + i. */
  #fillDevice(): void {
    this.#frames = this.#pages.alloc(2 * (BLOCK / PAGE), "frames", BLOCK);
    const words = Uint32Array.from({ length: EDU_BUFFER_SIZE / 4 }, (_, i) => FIRST_WORD + i);
    this.qtest.write(this.#frames, new Uint8Array(words.buffer));
    this.#edu.load(BigInt(this.#frames));
    this.qtest.flush();
  }

  async #moveTo(kind: Kind): Promise<void> {
    const before = this.#domain as IommuDomain | undefined;
    const type = kind === "identity" || kind === "blocked" ? kind : "unmanaged";
    const domain = this.#driver.domainAlloc(type, this.#device);
    if (kind === "s2") this.#driver.enableNesting(domain);
    await this.#driver.attachDev(domain, this.#device);
    if (before) this.#driver.domainFree(before);
    this.#domain = domain;
    this.#kind = kind;
    this.#mappings.clear();
  }

  async #case(): Promise<string | undefined> {
    if (this.#kind === "s1" || this.#kind === "s2") {
      if (this.#mappings.size > 0 && this.#random.below(3) === 0) await this.#unmapOne();
      else this.#mapOne();
    }
    const iova = this.#someAddress();
    return this.#random.below(2) === 0 ? this.#checkWrite(iova) : this.#checkRead(iova);
  }

  /** An IOVA in a small part of the space, so that mappings share tables, or at its end. */
  #someAddress(): bigint {
    if (this.#kind === "identity") return BigInt(this.#frames + 4 * this.#random.below(BLOCK / 4));
    const known = [...this.#mappings.keys()];
    if (known.length > 0 && this.#random.below(4) !== 0) {
      const start = this.#random.pick(known);
      return start + BigInt(4 * this.#random.below((this.#mappings.get(start)?.size ?? PAGE) / 4));
    }
    return this.#pageAddress() + BigInt(4 * this.#random.below(PAGE / 4));
  }

  #pageAddress(): bigint {
    const { end } = this.#domain.aperture;
    const page = BigInt(PAGE * this.#random.below(2048));
    return this.#random.below(4) === 0 && this.#kind !== "blocked" ? end + 1n - BigInt(2048 * PAGE) + page : page;
  }

  #mapOne(): void {
    const block = this.#random.below(4) === 0;
    const size = block ? BLOCK : PAGE;
    const iova = this.#pageAddress() & ~BigInt(size - 1);
    if (this.#find(iova, size)) return;
    const prot = this.#random.pick([
      IommuProt.READ,
      IommuProt.WRITE | IommuProt.READ,
      IommuProt.WRITE | IommuProt.READ,
    ]);
    const pa = this.#frames + (block ? 0 : PAGE * this.#random.below(2 * (BLOCK / PAGE)));
    this.#driver.map(this.#domain, iova, pa, size, 1, prot);
    this.#mappings.set(iova, { pa, size, prot });
  }

  async #unmapOne(): Promise<void> {
    const iova = this.#random.pick([...this.#mappings.keys()]);
    const { size } = this.#mappings.get(iova) as Mapping;
    const gather = newGather();
    this.#driver.unmap(this.#domain, iova, size, 1, gather);
    await this.#driver.iotlbSync(this.#domain, gather);
    this.#mappings.delete(iova);
  }

  #find(iova: bigint, size: number): { start: bigint; mapping: Mapping } | undefined {
    for (const [start, mapping] of this.#mappings) {
      if (iova < start + BigInt(mapping.size) && start < iova + BigInt(size)) return { start, mapping };
    }
    return undefined;
  }

  /** Where a DMA must arrive, or the event that must come instead; "nothing" for an abort without a record. */
  #expect(iova: bigint, write: boolean): number | string {
    if (this.#kind === "identity") return Number(iova);
    if (this.#kind === "blocked") return "nothing";
    const found = this.#find(iova, 4);
    if (!found) return "10";
    if (write && (found.mapping.prot & IommuProt.WRITE) === 0) return "13";
    return found.mapping.pa + Number(iova - found.start);
  }

  async #checkWrite(iova: bigint): Promise<string | undefined> {
    const expected = this.#expect(iova, true);
    const word = this.#random.below(EDU_BUFFER_SIZE / 4 - 8);
    if (typeof expected === "number") this.qtest.writel(expected, 0);
    this.#edu.dma(iova, 4 * word, 4, true);
    const events = await this.#events();
    if (typeof expected === "string") {
      const quirk = QEMU_DRIVER_QUIRKS.s2HitPermission && this.#kind === "s2" && expected === "13" && events === "";
      return quirk ? undefined : differs(`write to 0x${iova.toString(16)}`, this.#wanted(expected, iova, true), events);
    }
    const got = this.qtest.readl(expected);
    const want = FIRST_WORD + word;
    if (events === "" && got === want) return undefined;
    return `write to 0x${iova.toString(16)}: expected 0x${want.toString(16)} at 0x${expected.toString(16)}, got 0x${got.toString(16)} ${events}`;
  }

  /** What the device read is seen when it writes it again, through a window that is mapped for that. */
  async #checkRead(iova: bigint): Promise<string | undefined> {
    const expected = this.#expect(iova, false);
    const offset = EDU_BUFFER_SIZE - 16;
    const value = this.#random.below(2 ** 31);
    if (typeof expected === "number") this.qtest.writel(expected, value);
    this.#edu.dma(iova, offset, 4, false);
    const events = await this.#events();
    const wanted = typeof expected === "string" ? this.#wanted(expected, iova, false) : "";
    const difference = differs(`read of 0x${iova.toString(16)}`, wanted, events);
    if (difference !== undefined || typeof expected === "string") return difference;
    const back = [...this.#mappings].find(([, { prot }]) => (prot & IommuProt.WRITE) !== 0);
    if (!back) return undefined;
    this.#edu.dma(back[0], offset, 4, true);
    const got = this.qtest.readl(back[1].pa);
    return got === value
      ? undefined
      : `read of 0x${iova.toString(16)}: expected 0x${value.toString(16)}, got 0x${got.toString(16)}`;
  }

  /** The lines that the driver prints for one event of the device (FEATURES G31). */
  #wanted(code: string, iova: bigint, write: boolean): string {
    if (code === "nothing") return "";
    const hex = (value: bigint) => `\t0x${value.toString(16).padStart(16, "0")}`;
    const stage2 = this.#kind === "s2";
    const head = (BigInt(EDU_RID) << 32n) | BigInt(`0x${code}`);
    const flags = (2n << 40n) | (write ? 0n : 1n << 35n) | (stage2 ? 1n << 39n : 0n);
    const ipa = stage2 ? iova & (QEMU_DRIVER_QUIRKS.s2IpaLowBits ? -1n : ~0xfffn) : 0n;
    return [`event 0x${code} received:`, hex(head), hex(flags), hex(iova), hex(ipa)].join("|");
  }

  /** What the driver has printed about events since the last call. */
  async #events(): Promise<string> {
    this.#wires.pump();
    await this.#scheduler.idle();
    this.#wires.pump();
    // The kernel prints ten events in five seconds.
    await this.#scheduler.sleep(1_000_000_000);
    const lines = this.#kernel.log.splice(0).map((line) => line.replace("arm-smmu-v3 smmuv3: ", ""));
    return lines.join("|");
  }
}

function differs(what: string, expected: string, got: string): string | undefined {
  return expected === got ? undefined : `${what}: expected "${expected}", got "${got}"`;
}
