/**
 * The simulated address space's pages: where they come from when they are first touched, copy-on-write, the CPU's own
 * accesses, and pins. What happens to mappings is in address-space.ts.
 */
import type { SystemBus } from "../bus/system-bus.js";
import { isErrno } from "../kernel/errno.js";
import { PAGE_SIZE } from "../memory/address.js";
import type { Frames } from "./frames.js";
import type { FaultResult, PinnedPages } from "./mm.js";
import { type MmEnvironment, MmStruct } from "./mm-struct.js";
import { BLOCK_PAGES, blockOf, pageOf } from "./page-number.js";
import { PageFlag } from "./page-table/page-table.js";
import { pinPages } from "./pin.js";
import type { ResidentPage } from "./resident-pages.js";
import type { Vma } from "./vma.js";
import { VmaList } from "./vma-list.js";

/** What the simulated processes of a platform share. */
export interface SimulatedEnvironment extends MmEnvironment {
  readonly bus: SystemBus;
  readonly frames: Frames;
  /** Whether reading anonymous memory that was never written maps the shared zero page. */
  readonly zeroPage: boolean;
  /** /sys/kernel/mm/transparent_hugepage/enabled. */
  readonly hugePages: "always" | "madvise" | "never";
  /** RLIMIT_STACK in bytes. */
  readonly stackLimit: number;
}

/** Pages that stay free between a growing stack and the mapping below it (stack_guard_gap). */
const STACK_GUARD_GAP = 256;

const WRITTEN = PageFlag.WRITE | PageFlag.DIRTY | PageFlag.ACCESSED;

/** What AddressSpace stands on. */
export abstract class DemandPaging extends MmStruct {
  readonly vmaList = new VmaList();

  constructor(
    override readonly environment: SimulatedEnvironment,
    owner: string,
  ) {
    super(environment, owner);
  }

  findVma(address: bigint): Vma | undefined {
    return this.vmaList.find(pageOf(address));
  }

  vmas(): readonly Vma[] {
    return this.vmaList.all;
  }

  protected override async makeResident(vma: Vma, page: number, write: boolean): Promise<FaultResult> {
    const { frames, bus } = this.environment;
    const flags = PageFlag.USER | PageFlag.ACCESSED | (vma.exec ? PageFlag.EXEC : 0);
    if (vma.backing === undefined) return this.#makeAnonymous(vma, page, write, flags);
    const pa = vma.backing.page(vma.indexOf(page));
    if (pa === undefined) return "bus";
    if (write && !vma.shared) {
      const copy = this.#copyOf(pa);
      this.mappings.add(page, copy, flags | WRITTEN);
      return "ok";
    }
    const kind = frames.at(pa)
      ? 0
      : bus.memory.has(pa, PAGE_SIZE)
        ? PageFlag.SPECIAL
        : PageFlag.SPECIAL | PageFlag.DEVICE;
    frames.hold(pa, "mappings");
    const writable = vma.shared && vma.write ? PageFlag.WRITE : 0;
    this.mappings.add(page, pa, flags | kind | writable | (write ? PageFlag.DIRTY : 0));
    return "ok";
  }

  #makeAnonymous(vma: Vma, page: number, write: boolean, flags: number): FaultResult {
    const { frames, zeroPage } = this.environment;
    const writable = vma.write ? PageFlag.WRITE | PageFlag.DIRTY : 0;
    const block = this.#allocateBlock(vma, page);
    if (block !== undefined) this.mappings.addBlock(blockOf(page), block, flags | writable);
    else if (!write && zeroPage) this.mappings.add(page, frames.zeroPage("mappings"), flags | PageFlag.SPECIAL);
    else this.mappings.add(page, frames.alloc(this.anonymousOwner, "mappings"), flags | writable);
    return "ok";
  }

  /** 2 MiB where a huge page may go and RAM has them; small pages do otherwise. */
  #allocateBlock(vma: Vma, page: number): number | undefined {
    const first = blockOf(page);
    if (!this.allowsBlocks(vma) || first < vma.first || first + BLOCK_PAGES > vma.limit) return undefined;
    if (!this.mappings.pages.blockIsEmpty(first)) return undefined;
    try {
      return this.environment.frames.allocBlock(this.anonymousOwner, "mappings");
    } catch (error) {
      if (isErrno(error, "ENOMEM")) return undefined;
      throw error;
    }
  }

  /** Whether 2 MiB pages may be used in the mapping. */
  allowsBlocks(vma: Vma): boolean {
    const { hugePages } = this.environment;
    if (vma.backing !== undefined || vma.growsDown || vma.hugePages === "never") return false;
    return hugePages === "always" || (hugePages === "madvise" && vma.hugePages === "always");
  }

  /** do_wp_page: reuse what nobody else has, copy what others see as well. */
  protected override async makeWritable(vma: Vma, page: number, resident: ResidentPage): Promise<FaultResult> {
    const { frames } = this.environment;
    const { pages } = this.mappings;
    if (pages.inBlock(page) && !this.#ownsBlock(page)) await this.mappings.split(page);
    if (pages.inBlock(page)) {
      await this.mappings.update(blockOf(page), blockOf(page) + BLOCK_PAGES, WRITTEN, 0);
    } else if (vma.shared || frames.isExclusive(resident.pa)) {
      await this.mappings.update(page, page + 1, WRITTEN, 0);
    } else {
      await this.takeCopy(page, resident, WRITTEN);
    }
    return "ok";
  }

  #ownsBlock(page: number): boolean {
    let exclusive = true;
    this.mappings.pages.forEach(blockOf(page), blockOf(page) + BLOCK_PAGES, (_page, { pa }) => {
      if (!this.environment.frames.isExclusive(pa)) exclusive = false;
    });
    return exclusive;
  }

  /** Gives the page a frame of its own. */
  async takeCopy(page: number, resident: ResidentPage, flags: number): Promise<void> {
    const old = resident.pa;
    const pa = this.environment.frames.alloc(this.anonymousOwner, "mappings");
    const kept = resident.flags & ~(PageFlag.SPECIAL | PageFlag.DEVICE);
    await this.mappings.replace(page, pa, kept | flags, () => this.copyPage(old, pa));
  }

  #copyOf(pa: number): number {
    const copy = this.environment.frames.alloc(this.anonymousOwner, "mappings");
    this.copyPage(pa, copy);
    return copy;
  }

  copyPage(from: number, to: number): void {
    const bytes = new Uint8Array(PAGE_SIZE);
    this.environment.bus.read(from, bytes);
    this.environment.bus.write(to, bytes);
  }

  /** Whom its own pages belong to, in the page allocator's books. */
  get anonymousOwner(): string {
    return `${this.owner} anon`;
  }

  protected override freePage(pa: number): void {
    this.environment.frames.drop(pa, "mappings");
  }

  protected override closeMappings(): void {
    this.vmaList.clear();
  }

  read(address: bigint, into: Uint8Array): Promise<number> {
    return this.#access(address, into.length, false, (pa, from, to) =>
      this.environment.bus.read(pa, into.subarray(from, to)),
    );
  }

  write(address: bigint, bytes: Uint8Array): Promise<number> {
    return this.#access(address, bytes.length, true, (pa, from, to) =>
      this.environment.bus.write(pa, bytes.subarray(from, to)),
    );
  }

  /** The CPU's access, page by page; ends at the first fault that cannot be resolved. */
  async #access(
    address: bigint,
    length: number,
    write: boolean,
    move: (pa: number, from: number, to: number) => boolean,
  ): Promise<number> {
    let page = pageOf(address);
    let inside = Number(BigInt.asUintN(12, address));
    for (let done = 0; done < length; page++, inside = 0) {
      const pa = this.#reach(page, write) ?? (await this.#cpuFault(page, write));
      const count = Math.min(length - done, PAGE_SIZE - inside);
      if (pa === undefined || !move(pa + inside, done, done + count)) return done;
      done += count;
    }
    return length;
  }

  /** What the MMU does: the page when an entry allows the access. Every entry allows reads. */
  #reach(page: number, write: boolean): number | undefined {
    const resident = this.mappings.pages.get(page);
    if (!resident || resident.hidden || (write && (resident.flags & PageFlag.WRITE) === 0)) return undefined;
    this.mappings.mark(page, write ? PageFlag.ACCESSED | PageFlag.DIRTY : PageFlag.ACCESSED);
    return resident.pa;
  }

  /** do_user_addr_fault: unlike a device's, a CPU's fault may grow the stack, and may read what it may only write. */
  async #cpuFault(page: number, write: boolean): Promise<number | undefined> {
    while (this.mmUsers > 0) {
      const result = await this.mmapLock.with(async () => {
        this.#expandStack(page);
        const vma = this.vmaList.find(page);
        return vma && (write ? vma.write : vma.accessible) ? this.faultIn(vma, page, write) : "segv";
      });
      if (result !== "ok") return undefined;
      // Another thread may have unmapped it since the lock was dropped.
      const pa = this.#reach(page, write);
      if (pa !== undefined) return pa;
    }
    return undefined;
  }

  #expandStack(page: number): void {
    const stack = this.vmaList.atOrAbove(page);
    if (!stack?.growsDown || stack.first <= page) return;
    if ((stack.limit - page) * PAGE_SIZE > this.environment.stackLimit) return;
    const below = this.vmaList.below(stack);
    if (below && page - below.limit < STACK_GUARD_GAP && below.accessible) return;
    stack.first = page;
  }

  pin(address: bigint, write: boolean, keepZeroPage = false, most = 1): Promise<PinnedPages> {
    return this.mmapLock.with(() => pinPages(this, pageOf(address), most, write, keepZeroPage));
  }
}
