/**
 * The mmu notifiers of one address space. Callbacks may sleep, register and unregister: a call goes to those that are
 * registered when it starts and still are when their turn comes. One that registers in between has missed nothing: the
 * entries had been changed before it came.
 */
import { IommuError } from "../kernel/errno.js";
import type { Tracer } from "../trace/tracer.js";
import type { Mm } from "./mm.js";
import type { MmuNotifier } from "./mmu-notifier.js";
import { addressOf } from "./page-number.js";

/** Calls them in the order in which they registered. */
export class NotifierList {
  readonly #notifiers = new Set<MmuNotifier>();
  #released = false;

  constructor(
    private readonly mm: Mm,
    private readonly trace: Tracer,
  ) {}

  get size(): number {
    return this.#notifiers.size;
  }

  /** @throws IommuError ESRCH when the last user has gone: nobody would call release */
  register(notifier: MmuNotifier): void {
    if (this.#released) throw new IommuError("ESRCH", `${this.mm.owner} is exiting: too late for a notifier`);
    if (this.#notifiers.has(notifier)) throw new Error(`${this.mm.owner}: the same notifier registered twice`);
    this.#notifiers.add(notifier);
  }

  unregister(notifier: MmuNotifier): void {
    this.#notifiers.delete(notifier);
  }

  /** Once; the list is empty afterwards, as Linux's. */
  async release(): Promise<void> {
    this.#released = true;
    await this.#each("release", 0, Number.POSITIVE_INFINITY, (notifier) => notifier.release(this.mm));
    this.#notifiers.clear();
  }

  /** Pages [first, limit). */
  async invalidateRange(first: number, limit: number): Promise<void> {
    const start = addressOf(first);
    const end = addressOf(limit);
    await this.#each("invalidateRange", first, limit, (notifier) => notifier.invalidateRange(this.mm, start, end));
  }

  /** @returns whether anybody had seen an access */
  async clearFlushYoung(first: number, limit: number): Promise<boolean> {
    const start = addressOf(first);
    const end = addressOf(limit);
    let young = false;
    await this.#each("clearFlushYoung", first, limit, async (notifier) => {
      if (await notifier.clearFlushYoung(this.mm, start, end)) young = true;
    });
    return young;
  }

  async changePte(page: number): Promise<void> {
    const address = addressOf(page);
    await this.#each("changePte", page, page + 1, (notifier) => notifier.changePte(this.mm, address));
  }

  async #each(
    callback: string,
    first: number,
    limit: number,
    call: (notifier: MmuNotifier) => Promise<void>,
  ): Promise<void> {
    for (const notifier of [...this.#notifiers]) {
      if (!this.#notifiers.has(notifier)) continue;
      if (this.trace.enabled) {
        const end = limit === Number.POSITIVE_INFINITY ? 2n ** 64n : addressOf(limit);
        this.trace.emit("notifier:called", { mm: this.mm.id, callback, start: addressOf(first), end });
      }
      await call(notifier);
    }
  }
}
