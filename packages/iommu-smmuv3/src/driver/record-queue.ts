/**
 * A queue that the chip fills: events, page requests (IHI 0070 7.2, 8.1). An interrupt starts a worker that empties it, entry by
 * entry; an overflow is acknowledged when everything that was kept has been handled. Others can wait until what stood in the
 * queue has been taken out (E10).
 */
import { type AnyLayout, type AnyRegister, unfailing, WaitQueue, WorkQueue } from "@iommukit/core";
import type { DriverContext } from "./driver-context.js";
import { QueueMemory } from "./queue.js";

const OVERFLOW = 0x8000_0000;

export interface RecordQueueRegisters {
  readonly base: AnyRegister;
  readonly prod: AnyRegister;
  readonly cons: AnyRegister;
}

export interface RecordHandler {
  handle(record: Int32Array): Promise<void>;
  /** Records were lost; what was kept has been handled. */
  overflowed(): void;
}

export class RecordQueue {
  readonly #memory: QueueMemory;
  readonly #work: WorkQueue;
  readonly #emptied: WaitQueue;
  #prod = 0;
  #cons = 0;
  /** Rounds of the queue, or emptyings of it, that the worker has done: the batch of the flush protocol. */
  #batch = 0;
  #running = false;

  /** @throws IommuError ENOMEM */
  constructor(
    private readonly context: DriverContext,
    readonly name: string,
    shift: number,
    layout: AnyLayout,
    private readonly registers: RecordQueueRegisters,
    private readonly handler: RecordHandler,
  ) {
    this.#memory = new QueueMemory(context, name, Math.min(shift, context.options.queueShift ?? 12), layout.words);
    this.#work = new WorkQueue(context.scheduler, `irq/${context.name}-${name}`);
    this.#emptied = new WaitQueue(context.scheduler, `${name} batch`);
  }

  get entries(): number {
    return this.#memory.ring.entries;
  }

  /** Tells the hardware where the queue is. While it is disabled. */
  reset(): void {
    const { mmio } = this.context;
    const { base, prod, cons } = this.registers;
    const words = new Int32Array(2);
    base.field("LOG2SIZE").set(words, 0, this.#memory.shift);
    base.field("ADDR").set(words, 0, this.#memory.base);
    base.field("WA").set(words, 0, 1);
    mmio.write64(base.offset, (BigInt(words[1] >>> 0) << 32n) | BigInt(words[0] >>> 0));
    mmio.write32(prod.offset, 0);
    mmio.write32(cons.offset, 0);
    this.#prod = 0;
    this.#cons = 0;
  }

  /** In interrupt context: the chip has written something. */
  readonly interrupt = (): void => {
    this.#work.queue(() => this.#drain());
  };

  /**
   * Waits until everything that is in the queue now has been handled: it was empty once, or the worker went round it twice.
   * Not longer, however much comes meanwhile.
   */
  async flush(): Promise<void> {
    if (!this.#running && !this.#more()) return;
    const until = this.#batch + 2;
    this.interrupt();
    await this.#emptied.wait(() => this.#batch >= until || (!this.#running && !this.#more()));
  }

  #more(): boolean {
    this.#prod = this.#memory.ring.count(this.context.mmio.read32(this.registers.prod.offset), this.#prod);
    return this.#prod !== this.#cons;
  }

  async #drain(): Promise<void> {
    this.#running = true;
    let handled = 0;
    while (this.#more()) {
      while (this.#cons !== this.#prod) {
        await this.#takeOne();
        if (++handled % this.entries === 0) this.#endBatch();
      }
    }
    this.#running = false;
    if (this.#overflow !== 0) {
      this.handler.overflowed();
      this.#acknowledge();
    }
    this.#endBatch();
  }

  async #takeOne(): Promise<void> {
    const record = this.#memory.read(this.#cons);
    this.#cons++;
    this.#writeCons(this.#overflowAcknowledged);
    // The queue goes on also where the command queue, which takes the answers, does not.
    await unfailing(this.context.kernel, `${this.context.name}: ${this.name}`, () => this.handler.handle(record));
    const turn = this.context.scheduler.point(`${this.name} record`);
    if (turn) await turn;
  }

  #endBatch(): void {
    this.#batch++;
    this.#emptied.wakeAll();
  }

  /** Bit 31 of PROD where it differs from what was acknowledged. */
  get #overflow(): number {
    return ((this.context.mmio.read32(this.registers.prod.offset) ^ this.#overflowAcknowledged) & OVERFLOW) >>> 0;
  }

  get #overflowAcknowledged(): number {
    return (this.context.mmio.read32(this.registers.cons.offset) & OVERFLOW) >>> 0;
  }

  #acknowledge(): void {
    this.#writeCons((this.context.mmio.read32(this.registers.prod.offset) & OVERFLOW) >>> 0);
  }

  #writeCons(overflow: number): void {
    this.context.mmio.write32(this.registers.cons.offset, (this.#memory.ring.pointer(this.#cons) | overflow) >>> 0);
  }

  async stop(): Promise<void> {
    await this.#work.flush();
  }

  free(): void {
    this.#memory.free();
  }
}
