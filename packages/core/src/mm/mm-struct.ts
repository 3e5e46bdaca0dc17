/**
 * mm_struct, as far as a simulated and a live address space share it: the two counts and the teardown between them,
 * notifiers, page tables, and handle_mm_fault's frame. A subclass knows the mappings, where a page comes from, and how
 * its bytes are reached.
 */
import { Access } from "../bus/transaction.js";
import { IommuError, isErrno } from "../kernel/errno.js";
import { Mutex } from "../kernel/mutex.js";
import type { WorkQueue } from "../kernel/work-queue.js";
import { Mappings, type MappingsEnvironment } from "./mappings.js";
import type { FaultResult, Mm, PinnedPages, VmaInfo } from "./mm.js";
import type { MmuNotifier } from "./mmu-notifier.js";
import { pageOf } from "./page-number.js";
import { PageFlag, type PageTable, type PageTableFormat } from "./page-table/page-table.js";
import type { TableWriter } from "./page-table/table-writer.js";
import { createVmsav8Table } from "./page-table/vmsav8-64-table.js";
import { createX86Table } from "./page-table/x86-64-table.js";
import type { ResidentPage } from "./resident-pages.js";

/** What address spaces need of the machine. */
export interface MmEnvironment extends MappingsEnvironment {
  /** system_wq: where mmputAsync runs. */
  readonly workers: WorkQueue;
  /** Levels of x86-64 tables: 5 with LA57. */
  readonly x86Levels: 4 | 5;
  /** User addresses end at 2 to the power of this: TASK_SIZE. */
  readonly addressBits: number;
  nextMmId(): number;
}

/** For an `Mm` of one's own: a subclass says where pages come from. */
export abstract class MmStruct implements Mm {
  readonly id: number;
  lockedVm = 0;
  readonly mmapLock: Mutex;
  readonly mappings: Mappings;
  #users = 1;
  /** All users together hold one. */
  #count = 1;
  readonly #dropped: (() => void)[] = [];

  constructor(
    readonly environment: MmEnvironment,
    readonly owner: string,
  ) {
    this.id = environment.nextMmId();
    this.mmapLock = new Mutex(environment.scheduler, environment.trace, `mmap_lock of ${owner}`);
    this.mappings = new Mappings(environment, this, (pa) => this.freePage(pa));
  }

  abstract findVma(address: bigint): VmaInfo | undefined;
  abstract vmas(): readonly VmaInfo[];
  abstract read(address: bigint, into: Uint8Array): Promise<number>;
  abstract write(address: bigint, bytes: Uint8Array): Promise<number>;
  abstract pin(address: bigint, write: boolean, keepZeroPage?: boolean, most?: number): Promise<PinnedPages>;

  /** Makes a page resident that is not: `mappings.add`. @throws IommuError ENOMEM */
  protected abstract makeResident(vma: VmaInfo, page: number, write: boolean): Promise<FaultResult>;
  /** A write to a resident page without PageFlag.WRITE, in a writable mapping. @throws IommuError ENOMEM */
  protected abstract makeWritable(vma: VmaInfo, page: number, resident: ResidentPage): Promise<FaultResult>;
  /** A page has left this address space and everybody knows. */
  protected abstract freePage(pa: number): void;
  /** The pages are gone; the mappings go. */
  protected abstract closeMappings(): void;

  get mmUsers(): number {
    return this.#users;
  }

  get mmCount(): number {
    return this.#count;
  }

  mmget(): void {
    if (this.#users === 0) throw new Error(`mmget of ${this.owner}, whose last user is gone`);
    this.#users++;
  }

  mmgetNotZero(): boolean {
    const { trace } = this.environment;
    if (this.#count === 0 && trace.enabled) trace.emit("mm:misused", { mm: this.id, owner: this.owner });
    if (this.#users === 0) return false;
    this.#users++;
    return true;
  }

  async mmput(): Promise<void> {
    if (this.#users === 0) throw new Error(`mmput of ${this.owner}, whose last user is gone`);
    if (--this.#users === 0) await this.#exit();
  }

  mmputAsync(): void {
    if (this.#users === 0) throw new Error(`mmput of ${this.owner}, whose last user is gone`);
    if (--this.#users === 0) this.environment.workers.queue(() => this.#exit());
  }

  mmgrab(): void {
    this.#count++;
  }

  mmdrop(): void {
    if (this.#count === 0) throw new Error(`mmdrop of ${this.owner}, which is gone`);
    if (--this.#count > 0) return;
    this.mappings.destroy();
    for (const callback of this.#dropped) callback();
  }

  onDrop(callback: () => void): void {
    this.#dropped.push(callback);
  }

  /** exit_mmap: notifiers hear release while everything is still mapped, then the mappings go. */
  async #exit(): Promise<void> {
    await this.mappings.notifiers.release();
    await this.mmapLock.with(async () => {
      await this.mappings.remove(0, Number.POSITIVE_INFINITY);
      this.closeMappings();
    });
    const { trace } = this.environment;
    if (trace.enabled) trace.emit("mm:released", { mm: this.id });
    this.mmdrop();
  }

  /** handle_mm_fault, as an I/O page fault calls it: the address has to lie in a mapping, stacks do not grow (E7). */
  async fault(address: bigint, access: number): Promise<FaultResult> {
    const result = this.#users === 0 ? "segv" : await this.mmapLock.with(() => this.#handleFault(address, access));
    const { trace } = this.environment;
    if (trace.enabled) trace.emit("mm:faulted", { mm: this.id, address, access, result });
    return result;
  }

  async #handleFault(address: bigint, access: number): Promise<FaultResult> {
    const vma = this.findVma(address);
    if (!vma || !permits(vma, access)) return "segv";
    // Who asks for no right gets none: the page of a PROT_NONE mapping could be made resident, but no entry would show it.
    if (!vma.read && !vma.write && !vma.exec) return "ok";
    return this.faultIn(vma, pageOf(address), (access & Access.WRITE) !== 0);
  }

  /** handle_mm_fault proper: rights have been checked, the caller holds the mmap_lock. */
  async faultIn(vma: VmaInfo, page: number, write: boolean): Promise<FaultResult> {
    const resident = this.mappings.pages.get(page);
    try {
      if (!resident) return await this.makeResident(vma, page, write);
      if (write && (resident.flags & PageFlag.WRITE) === 0) return await this.makeWritable(vma, page, resident);
      this.mappings.mark(page, write ? PageFlag.ACCESSED | PageFlag.DIRTY : PageFlag.ACCESSED);
      this.mappings.show(page);
      // flush_tlb_fix_spurious_fault: the entry allowed it already, so the write met a cached read-only one.
      if (write) await this.mappings.notifiers.invalidateRange(page, page + 1);
      return "ok";
    } catch (error) {
      if (isErrno(error, "ENOMEM")) return "oom";
      throw error;
    }
  }

  pageTable(format: PageTableFormat): PageTable {
    if (this.#count === 0) throw new Error(`${this.owner} is gone: it has no page table`);
    return this.mappings.table(format, () => this.#makeTable(format));
  }

  #makeTable(format: PageTableFormat): TableWriter {
    const { x86Levels, addressBits } = this.environment;
    // Half of an x86 address space is the kernel's; TTBR0 of VMSAv8-64 is the user's alone.
    const bits = format === "vmsav8-64" ? 48 : x86Levels === 5 ? 56 : 47;
    if (addressBits > bits) {
      throw new IommuError("EINVAL", `${this.owner} uses ${addressBits}-bit addresses, ${format} tables hold ${bits}`);
    }
    const owner = this.owner;
    return format === "vmsav8-64"
      ? createVmsav8Table(this.environment, owner)
      : createX86Table(this.environment, owner, x86Levels);
  }

  registerNotifier(notifier: MmuNotifier): void {
    this.mappings.notifiers.register(notifier);
  }

  unregisterNotifier(notifier: MmuNotifier): void {
    this.mappings.notifiers.unregister(notifier);
  }
}

/** The permissions asked for must be a subset of the mapping's (E7). */
function permits(vma: VmaInfo, access: number): boolean {
  return (
    ((access & Access.READ) === 0 || vma.read) &&
    ((access & Access.WRITE) === 0 || vma.write) &&
    ((access & Access.EXEC) === 0 || vma.exec)
  );
}
