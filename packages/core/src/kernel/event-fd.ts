/** eventfd(2): a counter behind a descriptor, which interrupts signal and programs read. */
import { IommuError } from "./errno.js";
import type { FileOps } from "./file.js";
import type { Scheduler } from "./scheduler.js";
import type { Task } from "./task.js";
import { WaitQueue } from "./wait-queue.js";

const MAX = 0xffff_ffff_ffff_fffen;

/** `new OpenFile(new EventFd(scheduler), O.RDWR)` makes a descriptor's file of it. Reads take 8 bytes. */
export class EventFd implements FileOps {
  readonly name = "anon_inode:[eventfd]";
  /** Readers and writers. */
  readonly #waiting: WaitQueue;
  readonly #listeners = new Set<() => void>();
  #count: bigint;

  /** @param nonblock EFD_NONBLOCK: what would have to wait gives EAGAIN */
  constructor(
    scheduler: Scheduler,
    initial = 0,
    private readonly nonblock = false,
  ) {
    this.#count = BigInt(initial);
    this.#waiting = new WaitQueue(scheduler, "eventfd");
  }

  get count(): bigint {
    return this.#count;
  }

  /** eventfd_signal: callable from interrupt context. */
  signal(add = 1n): void {
    this.#count = this.#count + add > MAX ? MAX : this.#count + add;
    this.#waiting.wakeAll();
    for (const listener of [...this.#listeners]) listener();
  }

  /** Calls back at each signal (irqfd, an unmask handler). @returns a function that ends it */
  onSignal(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The counter, which becomes zero; waits while it is zero. @throws IommuError EINVAL short buffer, EAGAIN */
  async read(_task: Task, into: Uint8Array): Promise<number> {
    if (into.length < 8) throw new IommuError("EINVAL", `a read of ${into.length} bytes; an eventfd gives 8`);
    if (this.#count === 0n && this.nonblock) throw new IommuError("EAGAIN", "the counter is zero");
    await this.#waiting.wait(() => this.#count > 0n);
    new DataView(into.buffer, into.byteOffset).setBigUint64(0, this.#count, true);
    this.#count = 0n;
    this.#waiting.wakeAll();
    return 8;
  }

  /** Adds; waits while the counter has no room for it. @throws IommuError EINVAL short buffer, or all ones; EAGAIN */
  async write(_task: Task, bytes: Uint8Array): Promise<number> {
    if (bytes.length < 8) throw new IommuError("EINVAL", `a write of ${bytes.length} bytes; an eventfd takes 8`);
    const add = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
    if (add > MAX) throw new IommuError("EINVAL", "an eventfd counts to 2^64 - 2");
    const fits = () => this.#count + add <= MAX;
    if (!fits() && this.nonblock) throw new IommuError("EAGAIN", "the counter is full");
    await this.#waiting.wait(fits);
    this.signal(add);
    return 8;
  }
}
