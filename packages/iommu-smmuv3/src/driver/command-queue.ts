/**
 * The command queue (IHI 0070 3.5, 4.7; G39). Many threads insert at once without a lock: whoever finds no owner owns the range that
 * starts at its commands, and others that come meanwhile add to that range. The owner waits until the previous range is published
 * and all slots of its own are filled, then moves CMDQ_PROD over it. CMD_SYNC makes all earlier commands complete.
 */
import { after, hiOf, IommuError, loOf, type MaySleep, WaitQueue } from "@iommukit/core";
import { CMD_SYNC, OPCODE } from "../spec/commands.js";
import { CMDQ_BASE, CMDQ_CONS, CMDQ_PROD } from "../spec/registers.js";
import type { DriverContext } from "./driver-context.js";
import { BATCH_COMMANDS, type Smmuv3Features } from "./probe.js";
import { printDoublewords, QueueMemory } from "./queue.js";
import { writeRegister } from "./registers.js";

export type Command = Int32Array;

const COMMAND_WORDS = 4;
const CERROR = { NONE: 0, ILL: 1, ABT: 2, ATC_INV_SYNC: 3 } as const;
const CERROR_TEXT = ["No error", "Illegal command", "Abort on command fetch", "ATC invalidate timeout"];
/** CMD_SYNC.MSH and MSIAttr: inner shareable, inner and outer write-back (Linux: ARM_SMMU_SH_ISH, MEMATTR_OIWB). */
const MESSAGE = { MSH: 3, MSIAttr: 0xf } as const;

export class CommandQueue {
  readonly #memory: QueueMemory;
  readonly #changed: WaitQueue;
  /** Slots that have been given out and hold their command. */
  readonly #filled: boolean[];
  readonly #polled: boolean;
  readonly #syncCommand: Command;
  /** Commands given a slot, published by CMDQ_PROD, and known to be consumed, since the reset. */
  #prod = 0;
  #published = 0;
  #cons = 0;
  #owned = false;

  /** @throws IommuError ENOMEM */
  constructor(
    private readonly context: DriverContext,
    features: Smmuv3Features,
  ) {
    const shift = Math.min(
      features.cmdqShift,
      Math.max(context.options.queueShift ?? 12, Math.log2(BATCH_COMMANDS) + 1),
    );
    this.#memory = new QueueMemory(context, "cmdq", shift, COMMAND_WORDS);
    this.#changed = new WaitQueue(context.scheduler, "cmdq owner");
    this.#filled = new Array<boolean>(this.#memory.ring.entries).fill(false);
    this.#polled = (context.options.disableMsiPolling ?? false) || !features.msi || !features.coherent;
    const head = { Opcode: OPCODE.SYNC, CS: this.#polled ? "none" : "irq" } as const;
    this.#syncCommand = CMD_SYNC.encode(this.#polled ? head : { ...head, ...MESSAGE });
  }

  /** Tells the hardware where the queue is; both pointers start over. While the queue is disabled. */
  reset(): void {
    const { mmio } = this.context;
    this.#prod = 0;
    this.#cons = 0;
    this.#published = 0;
    writeRegister(mmio, CMDQ_BASE, { LOG2SIZE: this.#memory.shift, ADDR: this.#memory.base, RA: true });
    writeRegister(mmio, CMDQ_PROD, { WR: 0 });
    writeRegister(mmio, CMDQ_CONS, { RD: 0 });
  }

  /** Inserts commands; they run some time later, in order. */
  issue(...commands: readonly Command[]): MaySleep {
    return this.#batches(commands, false);
  }

  /** Inserts commands and waits until they and all before them have completed, for a second at most: then the log says so. */
  issueSync(...commands: readonly Command[]): MaySleep {
    return this.#batches(commands, true);
  }

  /** @param sync ends the last batch with a CMD_SYNC, and waits for it */
  #batches(commands: readonly Command[], sync: boolean): MaySleep {
    if (commands.length <= BATCH_COMMANDS) return this.#insert(commands, sync);
    const rest = commands.slice(BATCH_COMMANDS);
    return after(this.#insert(commands.slice(0, BATCH_COMMANDS), false), () => this.#batches(rest, sync));
  }

  /** Suspends only where it has to: most insertions find room, own their range and wait for nobody. */
  #insert(commands: readonly Command[], sync: boolean): MaySleep {
    const count = commands.length + (sync ? 1 : 0);
    return after(this.#hasRoom(count) ? undefined : this.#makeRoom(count), () => {
      const first = this.#prod;
      const end = first + count;
      const owner = !this.#owned;
      this.#prod = end;
      this.#owned = true;
      const filled = this.#fill(commands, first, end);
      const published = owner ? after(filled, () => this.#publish(first)) : filled;
      return sync ? after(published, () => this.#waitFor(end - 1)) : published;
    });
  }

  /** Fills slots up to `end`, from `number` on; those behind the commands with a CMD_SYNC. */
  #fill(commands: readonly Command[], first: number, end: number, number = first): MaySleep {
    if (number === end) return undefined;
    this.#memory.write(number, commands[number - first] ?? this.#sync(number));
    return after(this.context.scheduler.point("cmdq store"), () => {
      this.#filled[this.#memory.ring.index(number)] = true;
      this.#changed.wakeAll();
      return this.#fill(commands, first, end, number + 1);
    });
  }

  #hasRoom(count: number): boolean {
    const { entries } = this.#memory.ring;
    return this.#prod + count - this.#cons <= entries || this.#prod + count - this.#readCons() <= entries;
  }

  async #makeRoom(count: number): Promise<void> {
    if (await this.context.poll(() => this.#hasRoom(count))) return;
    this.context.print("CMDQ timeout");
    throw new IommuError("ETIMEDOUT", `${this.context.name}: the command queue has been full for a second`);
  }

  #readCons(): number {
    this.#cons = this.#memory.ring.count(this.context.mmio.read32(CMDQ_CONS.offset), this.#cons);
    return this.#cons;
  }

  /** Moves CMDQ_PROD over the owner's range, which ends with the last slot that was given out by then. */
  #publish(first: number): MaySleep {
    return after(
      this.#once(() => this.#published === first),
      () => {
        const end = this.#prod;
        this.#owned = false;
        return after(
          this.#once(() => this.#allFilled(first, end)),
          () => {
            const { ring } = this.#memory;
            for (let number = first; number < end; number++) this.#filled[ring.index(number)] = false;
            this.#published = end;
            this.context.mmio.write32(CMDQ_PROD.offset, ring.pointer(end));
            this.#changed.wakeAll();
          },
        );
      },
    );
  }

  #once(condition: () => boolean): MaySleep {
    return condition() ? undefined : this.#changed.wait(condition);
  }

  #allFilled(first: number, end: number): boolean {
    for (let number = first; number < end; number++) if (!this.#filled[this.#memory.ring.index(number)]) return false;
    return true;
  }

  #sync(number: number): Command {
    // The message overwrites the command's own first word, which is not zero before.
    const pa = this.#memory.at(number);
    if (!this.#polled) CMD_SYNC.MSIAddress.setPair(this.#syncCommand, 0, hiOf(pa), loOf(pa));
    return this.#syncCommand;
  }

  /** Whoever fills the slot anew has read CMDQ_CONS before. */
  #completed(sync: number): boolean {
    if (this.#published <= sync) return false;
    if (this.#polled) return this.#readCons() > sync;
    return this.#cons > sync || this.context.memory.load32(this.#memory.at(sync)) === 0;
  }

  #waitFor(sync: number): MaySleep {
    return this.#completed(sync) ? undefined : this.#poll(sync);
  }

  async #poll(sync: number): Promise<void> {
    await this.#changed.wait(() => this.#published > sync);
    if (await this.context.poll(() => this.#completed(sync))) return;
    const hex = (value: number) => `0x${value.toString(16).padStart(8, "0")}`;
    const { mmio } = this.context;
    const hardware = `hwprod ${hex(mmio.read32(CMDQ_PROD.offset))}, hwcons ${hex(mmio.read32(CMDQ_CONS.offset))}`;
    this.context.print(`CMD_SYNC timeout at ${hex(this.#memory.ring.pointer(sync))} [${hardware}]`);
  }

  /**
   * GERROR.CMDQ_ERR is active: the queue stands still at CMDQ_CONS (G29). Makes it possible to go on; the caller acknowledges.
   * An illegal command becomes a CMD_SYNC; a fetch is repeated; after an ATC timeout the CMD_SYNC is.
   */
  skipError(): void {
    const cons = this.context.mmio.read32(CMDQ_CONS.offset);
    const error = CMDQ_CONS.ERR.get(Int32Array.of(cons | 0));
    this.context.print(`CMDQ error (cons 0x${cons.toString(16).padStart(8, "0")}): ${CERROR_TEXT[error] ?? "Unknown"}`);
    if (error === CERROR.ABT) this.context.print("retrying command fetch");
    if (error === CERROR.ABT || error === CERROR.NONE || error === CERROR.ATC_INV_SYNC) return;
    const number = this.#memory.ring.count(cons, this.#cons);
    this.context.print("skipping command in error state:");
    printDoublewords(this.context, this.#memory.read(number));
    this.#memory.write(number, CMD_SYNC.encode({ Opcode: OPCODE.SYNC, CS: "none" }));
  }

  free(): void {
    this.#memory.free();
  }
}
