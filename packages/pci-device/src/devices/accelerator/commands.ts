/** The accelerator's command register: enabling and disabling, draining and aborting, of the device, a queue or a PASID. */
import { NO_PASID, type RegisterFile, type Scheduler } from "@iommukit/core";
import type { DmaEngine } from "../../dma-engine.js";
import type { EnginePool } from "./engine-pool.js";
import { CMD, CMDSTS, Command, CommandError, GENSTS, INTCAUSE, WQCFG } from "./registers.js";
import type { WorkItem, WorkQueueUnit } from "./work.js";

/** What commands need of the device. */
export interface CommandPorts {
  readonly name: string;
  readonly dma: DmaEngine;
  readonly scheduler: Scheduler;
  /** Vector 0. */
  readonly interrupt: () => void;
  readonly stopPasid: (pasid: number) => Promise<void>;
}

/** A command's error code, or what has to be waited for before it is known. */
type Outcome = number | (() => Promise<number>);

export class Commands {
  /** Counts resets: a command that a reset overtook must not report. */
  #era = 0;

  /** @param totalSize descriptors that all queues together hold */
  constructor(
    private readonly file: RegisterFile,
    private readonly queues: readonly WorkQueueUnit[],
    private readonly pool: EnginePool,
    private readonly totalSize: number,
    private readonly ports: CommandPorts,
  ) {
    file.onWrite(CMD, () => this.#start());
  }

  /** A reset: what is under way ends without a word. */
  forget(): void {
    this.#era++;
  }

  #start(): void {
    const { words } = this.file;
    if (CMDSTS.Active.get(words, CMDSTS.index) === 1) return;
    const interrupt = CMD.RequestInterrupt.decode(words, CMD.index);
    CMDSTS.encode({ Active: true }, words, CMDSTS.index);
    const outcome = this.#carryOut(CMD.Command.get(words, CMD.index), CMD.Operand.get(words, CMD.index));
    if (typeof outcome === "number") {
      this.#done(outcome, interrupt);
      return;
    }
    const era = this.#era;
    this.ports.scheduler.spawn(`${this.ports.name} command`, async () => {
      const error = await outcome();
      if (era === this.#era) this.#done(error, interrupt);
    });
  }

  #done(error: number, interrupt: boolean): void {
    CMDSTS.encode({ ErrorCode: error }, this.file.words, CMDSTS.index);
    INTCAUSE.CommandCompletion.set(this.file.words, INTCAUSE.index, 1);
    if (interrupt) this.ports.interrupt();
  }

  #carryOut(command: number, operand: number): Outcome {
    if (command >= Command.ENABLE_WQ && command <= Command.RESET_WQ) {
      const queue = this.queues[operand];
      return queue === undefined ? CommandError.NO_SUCH_QUEUE : this.#onQueue(command, queue);
    }
    const withPasid = ({ pasid }: WorkItem) => pasid === operand;
    if (command === Command.DRAIN_PASID) return () => this.#drain(withPasid);
    if (command === Command.ABORT_PASID) return () => this.#abortPasid(operand);
    return this.#onDevice(command);
  }

  #onDevice(command: number): Outcome {
    const { words } = this.file;
    const everything = () => true;
    switch (command) {
      case Command.ENABLE_DEVICE:
        if (GENSTS.Enabled.get(words, GENSTS.index) === 1) return CommandError.NOT_DISABLED;
        GENSTS.Enabled.set(words, GENSTS.index, 1);
        return CommandError.NONE;
      case Command.DISABLE_DEVICE:
        this.#disable();
        return () => this.#drain(everything);
      case Command.DRAIN_ALL:
        return () => this.#drain(everything);
      case Command.ABORT_ALL:
        return () => this.#abort(everything);
      case Command.RESET_DEVICE:
        this.#disable();
        return () => this.#abort(everything);
      default:
        return CommandError.UNKNOWN;
    }
  }

  #disable(): void {
    GENSTS.Enabled.set(this.file.words, GENSTS.index, 0);
    for (const queue of this.queues) queue.enabled = false;
  }

  #onQueue(command: number, queue: WorkQueueUnit): Outcome {
    const mine = (item: WorkItem) => item.queue === queue.index;
    switch (command) {
      case Command.ENABLE_WQ:
        return this.#enableQueue(queue);
      case Command.DISABLE_WQ:
        queue.enabled = false;
        return () => this.#drain(mine);
      case Command.DRAIN_WQ:
        return () => this.#drain(mine);
      case Command.ABORT_WQ:
        return () => this.#abort(mine);
      default:
        queue.enabled = false;
        this.file.set(WQCFG[queue.index], 0);
        return () => this.#abort(mine);
    }
  }

  #enableQueue(queue: WorkQueueUnit): number {
    const register = WQCFG[queue.index];
    const { words } = this.file;
    if (GENSTS.Enabled.get(words, GENSTS.index) === 0) return CommandError.NOT_ENABLED;
    if (queue.enabled) return CommandError.NOT_DISABLED;
    const config = register.decode(words, register.index);
    const used = this.queues.filter(({ enabled }) => enabled).reduce((sum, { settings }) => sum + settings.size, 0);
    if (config.Size === 0 || used + config.Size > this.totalSize) return CommandError.BAD_CONFIGURATION;
    const dedicated = config.Mode === "dedicated";
    queue.settings = {
      size: config.Size,
      threshold: config.Threshold,
      dedicated,
      blockOnFault: config.BlockOnFaultEnable,
      pasid: config.PASIDEnable ? (dedicated ? config.PASID : undefined) : NO_PASID,
      privileged: config.PrivilegedEnable,
      untaggedCompletion: config.UntaggedCompletion,
      priority: config.Priority,
    };
    queue.enabled = true;
    return CommandError.NONE;
  }

  async #drain(which: (item: WorkItem) => boolean): Promise<number> {
    await this.pool.drained(which);
    return CommandError.NONE;
  }

  async #abort(which: (item: WorkItem) => boolean): Promise<number> {
    for (const queue of this.queues) queue.abort(which);
    await this.ports.dma.cancel(({ owner }) => (owner as WorkItem | undefined)?.aborted === true);
    await this.pool.drained((item) => item.aborted);
    return CommandError.NONE;
  }

  /** Afterwards the device is done with the PASID: nothing under way, and a Stop Marker sent. */
  async #abortPasid(pasid: number): Promise<number> {
    await this.#abort((item) => item.pasid === pasid);
    await this.ports.stopPasid(pasid);
    return CommandError.NONE;
  }
}
