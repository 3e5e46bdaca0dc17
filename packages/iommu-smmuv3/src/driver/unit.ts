/** One SMMU while the driver is bound to it: its parts, and how they come up and go down (arm_smmu_device_probe, G9). */
import { F_TRANSLATION } from "../spec/events.js";
import { PRIQ_ENTRY } from "../spec/page-requests.js";
import { EVENTQ_BASE, EVENTQ_CONS, EVENTQ_PROD, PRIQ_BASE, PRIQ_CONS, PRIQ_PROD } from "../spec/registers.js";
import { Identifiers } from "./asid.js";
import { Attachment } from "./attachment.js";
import { CommandQueue } from "./command-queue.js";
import { DeviceReset } from "./device-reset.js";
import type { Smmuv3Domain } from "./domain.js";
import type { DriverContext } from "./driver-context.js";
import { EventHandler } from "./event-handler.js";
import { Interrupts } from "./interrupts.js";
import { Invalidation } from "./invalidation.js";
import { linuxFeatures } from "./linux-features.js";
import { PageRequestHandler } from "./page-request-handler.js";
import { probe, type Smmuv3Features } from "./probe.js";
import { RecordQueue } from "./record-queue.js";
import { StreamTable } from "./stream-table.js";
import type { Streams } from "./streams.js";
import { SmmuSva, type SvaContext, svaObstacle } from "./sva.js";

const EVENTQ = { base: EVENTQ_BASE, prod: EVENTQ_PROD, cons: EVENTQ_CONS };
const PRIQ = { base: PRIQ_BASE, prod: PRIQ_PROD, cons: PRIQ_CONS };

export class Unit {
  readonly features: Smmuv3Features;
  readonly commands: CommandQueue;
  readonly invalidation: Invalidation;
  readonly streamTable: StreamTable;
  readonly attachment: Attachment;
  readonly sva: SmmuSva;
  readonly asids: Identifiers<Smmuv3Domain | SvaContext>;
  readonly vmids: Identifiers<Smmuv3Domain>;
  readonly #eventq: RecordQueue;
  readonly #priq: RecordQueue | undefined;
  readonly #reset: DeviceReset;
  readonly #interrupts: Interrupts;
  /** Parts with memory of their own. */
  readonly #parts: { free(): void }[] = [];

  /** @throws IommuError ENODEV what the hardware lacks, ENOMEM */
  constructor(context: DriverContext, streams: Streams) {
    const features = probe(context.mmio, context.options);
    const owned = <T extends { free(): void }>(part: T): T => {
      this.#parts.push(part);
      return part;
    };
    const bits = linuxFeatures(features, svaObstacle(features, context.options) === undefined)
      .toString(16)
      .padStart(8, "0");
    context.print(`ias ${features.oas}-bit, oas ${features.oas}-bit (features 0x${bits})`);
    this.features = features;
    this.asids = new Identifiers("ASID", features.asidBits);
    this.vmids = new Identifiers("VMID", features.vmidBits);
    try {
      this.commands = owned(new CommandQueue(context, features));
      const events = new EventHandler(context, this.commands, streams);
      this.#eventq = owned(new RecordQueue(context, "evtq", features.evtqShift, F_TRANSLATION, EVENTQ, events));
      if (features.pri) {
        const requests = new PageRequestHandler(context, this.commands, streams);
        this.#priq = owned(new RecordQueue(context, "priq", features.priqShift, PRIQ_ENTRY, PRIQ, requests));
      }
      this.streamTable = owned(new StreamTable(context, features));
    } catch (error) {
      this.free();
      throw error;
    }
    const { commands } = this;
    const reachable = (sid: number) => streams.find(sid)?.reachable ?? false;
    this.invalidation = new Invalidation(context, commands, features, reachable);
    this.attachment = new Attachment(context, features, commands, this.invalidation, this.streamTable);
    this.sva = new SmmuSva(context, features, this.attachment, this.invalidation, this.asids, this.#priq?.entries ?? 0);
    this.#reset = new DeviceReset(context, features);
    this.#interrupts = new Interrupts(context, features, commands, {
      eventq: this.#eventq.interrupt,
      priq: this.#priq?.interrupt,
    });
  }

  /** Every step waits until the hardware has acknowledged the one before. @throws IommuError ETIMEDOUT */
  async start(): Promise<void> {
    await this.#reset.reset();
    this.streamTable.install();
    this.commands.reset();
    await this.#reset.enable("CMDQEN", "command queue");
    await this.#reset.invalidateAll(this.commands);
    this.#eventq.reset();
    await this.#reset.enable("EVENTQEN", "event queue");
    this.#priq?.reset();
    if (this.#priq) await this.#reset.enable("PRIQEN", "PRI queue");
    if (this.features.ats) await this.#reset.enable("ATSCHK", "ATS check");
    await this.#reset.enableInterrupts(false);
    this.#interrupts.setUp();
    await this.#reset.enableInterrupts(true);
    await this.#reset.enable("SMMUEN", "SMMU interface");
  }

  /** All devices have been released. @throws IommuError ETIMEDOUT */
  async stop(): Promise<void> {
    await this.#reset.enableInterrupts(false);
    this.#interrupts.tearDown();
    await this.#eventq.stop();
    await this.#priq?.stop();
    await this.#reset.disable();
    this.free();
  }

  /** The hardware uses none of it any more, or never did. */
  free(): void {
    for (const part of this.#parts) part.free();
  }

  /** Everything that devices have asked so far has been handed to the fault queues. */
  async flushQueues(): Promise<void> {
    await this.#eventq.flush();
    await this.#priq?.flush();
  }
}
