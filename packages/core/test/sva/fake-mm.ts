/** An address space of a few VMAs, without pages: the counts, the notifiers and the faults that the SVA core sees. */
import type { FaultResult, Mm, MmuNotifier, PageTable, PinnedPages, Scheduler, VmaInfo } from "../../src/index.js";

export function vma(start: bigint, end: bigint, perms = "rw-", name = ""): VmaInfo {
  return {
    start,
    end,
    read: perms[0] === "r",
    write: perms[1] === "w",
    exec: perms[2] === "x",
    shared: false,
    name,
  };
}

let nextId = 1;

export class FakeMm implements Mm {
  readonly id = nextId++;
  mmUsers = 1;
  mmCount = 1;
  lockedVm = 0;
  mappings: VmaInfo[] = [vma(0x10000n, 0x20000n), vma(0x20000n, 0x30000n, "r--"), vma(0x30000n, 0x40000n, "r-x")];
  /** What the next faults answer; "ok" when empty. */
  readonly results: FaultResult[] = [];
  readonly faults: string[] = [];
  faultDelay = 0;
  readonly notifiers = new Set<MmuNotifier>();
  readonly #dropped: (() => void)[] = [];

  constructor(
    readonly scheduler: Scheduler,
    readonly owner = `pid ${nextId}`,
  ) {}

  mmget(): void {
    this.mmUsers++;
  }

  mmgetNotZero(): boolean {
    if (this.mmUsers === 0) return false;
    this.mmUsers++;
    return true;
  }

  async mmput(): Promise<void> {
    if (--this.mmUsers > 0) return;
    for (const notifier of [...this.notifiers]) await notifier.release(this);
    this.mappings = [];
    this.mmdrop();
  }

  mmputAsync(): void {
    if (this.mmUsers > 1) this.mmUsers--;
    else this.scheduler.spawn("mmput", () => this.mmput());
  }

  mmgrab(): void {
    this.mmCount++;
  }

  mmdrop(): void {
    if (--this.mmCount === 0) for (const callback of this.#dropped) callback();
  }

  onDrop(callback: () => void): void {
    this.#dropped.push(callback);
  }

  findVma(address: bigint): VmaInfo | undefined {
    return this.mappings.find(({ start, end }) => address >= start && address < end);
  }

  vmas(): readonly VmaInfo[] {
    return this.mappings;
  }

  async fault(address: bigint, access: number): Promise<FaultResult> {
    if (this.faultDelay) await this.scheduler.sleep(this.faultDelay);
    this.faults.push(`0x${address.toString(16)} ${access}`);
    return this.results.shift() ?? "ok";
  }

  /** A CPU access grows the stack down to it. */
  async read(address: bigint, into: Uint8Array): Promise<number> {
    const stack = this.mappings.find(({ name, start }) => name === "[stack]" && address < start);
    if (stack) this.mappings.push(vma(address & ~0xfffn, stack.start, "rw-", "[stack]"));
    return into.length;
  }

  async write(_address: bigint, bytes: Uint8Array): Promise<number> {
    return bytes.length;
  }

  async pin(): Promise<PinnedPages> {
    throw new Error("not used");
  }

  pageTable(): PageTable {
    throw new Error("not used");
  }

  registerNotifier(notifier: MmuNotifier): void {
    this.notifiers.add(notifier);
  }

  unregisterNotifier(notifier: MmuNotifier): void {
    this.notifiers.delete(notifier);
  }

  async invalidate(start: bigint, end: bigint): Promise<void> {
    for (const notifier of [...this.notifiers]) await notifier.invalidateRange(this, start, end);
  }
}
