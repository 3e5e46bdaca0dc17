/** What the driver's parts share: the chip's registers, memory, the kernel, and how it was set up. */
import {
  InterruptController,
  join64,
  Kernel,
  Mmio,
  PageAllocator,
  PhysicalMemory,
  Scheduler,
  Sva,
  Tracer,
  token,
  Variants,
} from "@iommukit/core";
import { inject, injectable } from "tsyringe";

/** Module parameters and firmware properties. */
export interface Smmuv3DriverOptions {
  /** Instance name; stands in log lines and interrupt names: "smmuv3". */
  readonly name: string;
  /** iommu.strict: DMA domains invalidate at every unmap; otherwise they are of type dma-fq, to be flushed later. Default true. */
  readonly strict?: boolean;
  /** Firmware says that the device's transactions may stall ("dma-can-stall"). Never true of PCIe functions on a real board. */
  readonly canStall?: (bdf: string) => boolean;
  /** Firmware says that the device's walks are coherent; by default as IDR0.COHACC. */
  readonly coherent?: boolean;
  /** arm-smmu-v3.disable_msipolling: wait for CMD_SYNC by reading CMDQ_CONS. Default false. */
  readonly disableMsiPolling?: boolean;
  /** Interrupts by message when IDR0.MSI allows. Default true. */
  readonly messageInterrupts?: boolean;
  /** Largest queue, log2 of entries; Linux's is limited by what one allocation can hold. 0 to 19; default 12. */
  readonly queueShift?: number;
  /** Event lines with the decoded fields below the raw doublewords, as kernels from 6.14 on print them. */
  readonly decodeEvents?: boolean;
  /** ASIDs that the CPUs have: 8 or 16 bits. Default 16. */
  readonly cpuAsidBits?: 8 | 16;
}
export const Smmuv3DriverOptions = token<Smmuv3DriverOptions>("Smmuv3DriverOptions");

/** ARM_SMMU_POLL_TIMEOUT_US: one second, in nanoseconds. */
const POLL_TIMEOUT = 1_000_000_000;

/** One instance's. */
@injectable()
export class DriverContext {
  constructor(
    @inject(Mmio) readonly mmio: Mmio,
    @inject(PhysicalMemory) readonly memory: PhysicalMemory,
    @inject(PageAllocator) readonly pages: PageAllocator,
    @inject(InterruptController) readonly interrupts: InterruptController,
    @inject(Scheduler) readonly scheduler: Scheduler,
    @inject(Tracer) readonly trace: Tracer,
    @inject(Kernel) readonly kernel: Kernel,
    @inject(Sva) readonly sva: Sva,
    @inject(Variants) readonly variants: Variants,
    @inject(Smmuv3DriverOptions) readonly options: Smmuv3DriverOptions,
  ) {}

  get name(): string {
    return this.options.name;
  }

  /** dev_err and its like. */
  print(line: string): void {
    this.kernel.printk(`arm-smmu-v3 ${this.name}: ${line}`);
  }

  /** Pages for a table or queue of `bytes`, aligned to their size. @throws IommuError ENOMEM */
  alloc(bytes: number, what: string): number {
    return this.pages.alloc(Math.ceil(bytes / 4096), `${this.name} ${what}`);
  }

  /** Traces a store to a table of the driver. */
  readonly stored = (table: string) => (address: number, hi: number, lo: number) => {
    if (this.trace.wants("table:written"))
      this.trace.emit("table:written", { by: this.name, table, address, value: join64(hi, lo) });
  };

  /**
   * readl_poll_timeout: looks again until `done` or the time is over. Time passes between looks.
   * @returns whether it was done
   */
  async poll(done: () => boolean, nanoseconds = POLL_TIMEOUT): Promise<boolean> {
    const deadline = this.scheduler.now + nanoseconds;
    for (let pause = 1_000; !done(); pause = Math.min(2 * pause, 1_000_000)) {
      if (this.scheduler.now >= deadline) return false;
      await this.scheduler.sleep(pause);
    }
    return true;
  }
}
