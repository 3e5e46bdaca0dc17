/** Brings the chip up and down in the order that Linux's arm_smmu_device_reset keeps (G9): each step waits for its acknowledgement. */
import { type AnyRegister, IommuError } from "@iommukit/core";
import { CR0, CR0ACK, CR1, CR2, GBPA, IRQ_CTRL, IRQ_CTRLACK } from "../spec/registers.js";
import type { CommandQueue } from "./command-queue.js";
import { cfgiAll, tlbiEl2All, tlbiNsnhAll } from "./commands.js";
import type { DriverContext } from "./driver-context.js";
import type { Smmuv3Features } from "./probe.js";
import { readField, writeRegister } from "./registers.js";

export class DeviceReset {
  #enabled: Record<string, boolean> = {};

  constructor(
    private readonly context: DriverContext,
    private readonly features: Smmuv3Features,
  ) {}

  /** Off, and memory attributes set: tables and queues can be installed. @throws IommuError ETIMEDOUT */
  async reset(): Promise<void> {
    const { mmio } = this.context;
    if (readField(mmio, CR0, CR0.SMMUEN) === 1) {
      this.context.print("SMMU currently enabled! Resetting...");
      await this.#abortWhileDisabled();
    }
    await this.disable();
    writeRegister(mmio, CR1, {
      QUEUE_IC: "writeBack",
      QUEUE_OC: "writeBack",
      QUEUE_SH: "inner",
      TABLE_IC: "writeBack",
      TABLE_OC: "writeBack",
      TABLE_SH: "inner",
    });
    writeRegister(mmio, CR2, { PTM: true, RECINVSID: true });
  }

  /** @throws IommuError ETIMEDOUT */
  async disable(): Promise<void> {
    this.#enabled = {};
    await this.#writeSync(CR0, CR0ACK, 0, "disable");
  }

  /** Transactions that come between disable and enable abort instead of passing. */
  async #abortWhileDisabled(): Promise<void> {
    const { mmio } = this.context;
    const idle = () => readField(mmio, GBPA, GBPA.UPDATE) === 0;
    if (await this.context.poll(idle)) {
      const words = Int32Array.of(mmio.read32(GBPA.offset) | 0);
      GBPA.ABORT.set(words, 0, 1);
      GBPA.UPDATE.set(words, 0, 1);
      mmio.write32(GBPA.offset, words[0] >>> 0);
      if (await this.context.poll(idle)) return;
    }
    this.context.print("GBPA not responding to update");
  }

  /** Sets one more bit of CR0. @throws IommuError ETIMEDOUT when CR0ACK does not follow */
  async enable(bit: "CMDQEN" | "EVENTQEN" | "PRIQEN" | "ATSCHK" | "SMMUEN", what: string): Promise<void> {
    this.#enabled = { ...this.#enabled, [bit]: true };
    await this.#writeSync(CR0, CR0ACK, CR0.encode(this.#enabled)[0], `enable ${what}`);
  }

  /** Whatever the caches hold is from before the tables were installed. */
  async invalidateAll(commands: CommandQueue): Promise<void> {
    await commands.issueSync(cfgiAll());
    if (this.features.hyp) await commands.issueSync(tlbiEl2All());
    await commands.issueSync(tlbiNsnhAll());
  }

  /** @throws IommuError ETIMEDOUT */
  async enableInterrupts(on: boolean): Promise<void> {
    const words = IRQ_CTRL.encode({ GERROR_IRQEN: on, EVENTQ_IRQEN: on, PRIQ_IRQEN: on && this.features.pri });
    await this.#writeSync(IRQ_CTRL, IRQ_CTRLACK, words[0], `${on ? "enable" : "disable"} irqs`);
  }

  async #writeSync(register: AnyRegister, acknowledge: AnyRegister, value: number, what: string): Promise<void> {
    const { mmio, name } = this.context;
    mmio.write32(register.offset, value >>> 0);
    if (await this.context.poll(() => mmio.read32(acknowledge.offset) === value >>> 0)) return;
    this.context.print(`failed to ${what}`);
    const got = mmio.read32(acknowledge.offset);
    throw new IommuError(
      "ETIMEDOUT",
      `${name}: ${acknowledge.name} stays 0x${got.toString(16)} a second after 0x${(value >>> 0).toString(16)} was written to ${register.name}`,
    );
  }
}
