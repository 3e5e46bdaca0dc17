/** The two sides of `--mode edu`: QEMU under one of our drivers, and a platform of ours with the same device. */
import {
  createBoard,
  createPlatform,
  Device,
  type IommuPlugin,
  PageAllocator,
  PhysicalMemory,
  type Platform,
} from "@iommukit/core";
import { edu } from "@iommukit/pci-device";
import type { DependencyContainer } from "tsyringe";
import type { Report } from "../report.js";
import type { DrivenOps, DriverMachine } from "./driver-oracle.js";
import { type EduMachine, runEduScript } from "./edu-script.js";
import type { Qtest } from "./qtest.js";
import { QtestMemory } from "./qtest-board.js";

const DMA_NANOSECONDS = 100_000_000;
const IRQ_WHEN_DONE = 0x80n;
const IRQ_FACTORIAL = 1n;
const COMPUTING = 1n;

/** QEMU with its edu; the board resolves the driver. */
class QemuEdu implements EduMachine {
  readonly memory: PhysicalMemory;
  readonly pages: PageAllocator;
  readonly device: Device;
  readonly #qtest: Qtest;
  readonly #bar: number;

  constructor(
    { qtest, bar, pci }: DriverMachine,
    board: DependencyContainer,
    readonly ops: DrivenOps,
    private readonly settle: () => Promise<void>,
  ) {
    this.#qtest = qtest;
    this.#bar = bar;
    this.memory = board.resolve(PhysicalMemory);
    this.pages = board.resolve(PageAllocator);
    this.device = new Device(pci.bdf, pci.rid, pci);
  }

  read(offset: number, width: 4 | 8): bigint {
    const reply = this.#qtest.later(`${width === 8 ? "readq" : "readl"} ${this.#bar + offset}`);
    this.#qtest.flush();
    return reply.big;
  }

  write(offset: number, width: 4 | 8, value: bigint): void {
    if (width === 8) this.#qtest.writeq(this.#bar + offset, value);
    else this.#qtest.writel(this.#bar + offset, Number(value));
  }

  /** Its factorials take real time, its DMAs virtual time. */
  async pass(): Promise<void> {
    this.#qtest.clockStep(DMA_NANOSECONDS);
    this.#qtest.flush();
    while ((this.read(0x20, 4) & COMPUTING) !== 0n);
    // QEMU's thread raises the interrupt some real time after it has cleared COMPUTING.
    const raised = () => (this.read(0x20, 4) & IRQ_WHEN_DONE) === 0n || (this.read(0x24, 4) & IRQ_FACTORIAL) !== 0n;
    for (let looks = 0; looks < 500 && !raised(); looks++);
    await this.settle();
  }
}

/** Ours, stopped between the steps: the script runs outside of the world. */
class OurEdu implements EduMachine {
  readonly memory: PhysicalMemory;
  readonly pages: PageAllocator;
  readonly ops;
  readonly device: Device;

  constructor(
    private readonly platform: Platform,
    bdf: string,
  ) {
    this.memory = platform.memory;
    this.pages = platform.pages;
    this.device = platform.device(bdf);
    this.ops = platform.iommus[0].ops;
    this.device.pci.writeConfig(4, 2, 6);
  }

  read(offset: number, width: 4 | 8): bigint {
    const bytes = new Uint8Array(width);
    this.device.pci.readBar(0, offset, bytes);
    return bytes.reduceRight((high, byte) => (high << 8n) | BigInt(byte), 0n);
  }

  write(offset: number, width: 4 | 8, value: bigint): void {
    this.device.pci.writeBar(
      0,
      offset,
      Uint8Array.from({ length: width }, (_, n) => Number((value >> BigInt(8 * n)) & 0xffn)),
    );
  }

  async pass(): Promise<void> {
    await this.platform.scheduler.sleep(DMA_NANOSECONDS);
    await this.platform.scheduler.idle();
  }
}

export interface EduSetUp {
  readonly machine: DriverMachine;
  readonly iommu: IommuPlugin;
  /** Registers what the driver needs of QEMU, and resolves it. */
  readonly driver: (board: DependencyContainer) => DrivenOps;
  /** Passes QEMU's interrupts on. */
  readonly settle: (board: DependencyContainer) => Promise<void>;
}

export async function runEdu(
  { machine, iommu, driver, settle }: EduSetUp,
  cases: number,
  seed: number,
  report: Report,
): Promise<void> {
  const platform = await createPlatform({ iommus: [iommu], devices: [edu({ bdf: machine.pci.bdf })] });
  // One clock for both: the driver on QEMU runs in our platform's time.
  const board = createBoard({ memory: new QtestMemory(machine.qtest, [machine.ram]), scheduler: platform.scheduler });
  await platform.run(async () => {
    const ops = driver(board);
    await ops.start();
    const qemu = new QemuEdu(machine, board, ops, () => settle(board));
    await ops.probeDevice(qemu.device);
    await runEduScript(new OurEdu(platform, machine.pci.bdf), qemu, cases, seed, report);
    await ops.releaseDevice(qemu.device);
    await ops.stop();
  });
}
