/**
 * The address space of a running process as an `Mm`. Mappings come from /proc/PID/maps, and their permissions are
 * enforced here: /proc/PID/mem ignores them. Bytes are the process's own. Page tables are ours, in simulated RAM.
 *
 * A process that is only looked at does not tell when it changes its mappings. `refresh` looks again, and takes out of the
 * tables, with the notifiers that that needs, what is no longer allowed; every fault looks again when it meets something
 * unknown. A process that runs on the bridge says `forget` before it unmaps.
 */
import {
  Access,
  type FaultResult,
  IommuError,
  isErrno,
  type MmEnvironment,
  MmStruct,
  PAGE_SIZE,
  PageFlag,
  type PinnedPages,
  type ResidentPage,
} from "@iommukit/core";
import { DeviceMappings } from "./device-mappings.js";
import type { LiveFrames } from "./live-frames.js";
import { findEntry, type MapsEntry } from "./maps.js";
import type { ProcessFiles } from "./process-files.js";

const PAGE_SHIFT = 12n;
/** User addresses of x86-64 and arm64 Linux end here; above is only the vsyscall page, which no table of ours holds. */
const ADDRESS_END = 1n << 47n;

/** What BIND by pid binds. */
export class LiveMm extends MmStruct {
  #maps: MapsEntry[] = [];
  readonly #pins = new Map<number, number>();
  readonly #freed = new Set<number>();
  #gone = false;
  #stale = false;
  /** BARs that the process has mapped. */
  devices = new DeviceMappings();

  constructor(
    environment: MmEnvironment,
    readonly files: ProcessFiles,
    private readonly frames: LiveFrames,
  ) {
    super(environment, `process ${files.pid}`);
    this.#readMaps();
  }

  /** The process has ended, or runs another program. */
  get gone(): boolean {
    return this.#gone;
  }

  /** The process has run: what is known of its mappings may be old when the next page is pinned or faulted in. */
  expire(): void {
    this.#stale = true;
  }

  /**
   * The process is about to unmap or replace [start, end): out of every table, and everybody hears of it. Pages that
   * are pinned live on with the bytes that they have now.
   */
  async forget(start: bigint, end: bigint): Promise<void> {
    this.devices.remove(start, end);
    const [first, limit] = [Number(start >> PAGE_SHIFT), Number((end + 0xfffn) >> PAGE_SHIFT)];
    await this.mmapLock.with(async () => {
      this.mappings.pages.forEach(first, limit, (_page, { pa }) => {
        if (this.#pins.has(pa)) this.frames.detach(pa);
      });
      await this.mappings.remove(first, limit);
    });
    this.#stale = true;
  }

  /** mremap has moved pages: frames, pinned ones too, hold them at their new place. */
  async move(start: bigint, length: bigint, target: bigint): Promise<void> {
    const [first, limit] = [Number(start >> PAGE_SHIFT), Number((start + length + 0xfffn) >> PAGE_SHIFT)];
    await this.mmapLock.with(async () => {
      this.mappings.pages.forEach(first, limit, (page, { pa }) =>
        this.frames.move(pa, target + (BigInt(page - first) << PAGE_SHIFT)),
      );
      await this.mappings.move(first, limit, Number(target >> PAGE_SHIFT));
    });
    this.#stale = true;
  }

  /** The mapping of an address; asks the process again before it says that there is none. */
  findVma(address: bigint): MapsEntry | undefined {
    const known = findEntry(this.#maps, address);
    if (known || this.mmUsers === 0) return known;
    this.#readMaps();
    return findEntry(this.#maps, address);
  }

  vmas(): readonly MapsEntry[] {
    return this.#maps;
  }

  read(address: bigint, into: Uint8Array): Promise<number> {
    return this.#access(
      address,
      into,
      (vma) => vma.read,
      (from, part) => this.files.read(from, part),
    );
  }

  write(address: bigint, bytes: Uint8Array): Promise<number> {
    return this.#access(
      address,
      bytes,
      (vma) => vma.write,
      (from, part) => this.files.write(from, part),
    );
  }

  async #access(
    address: bigint,
    bytes: Uint8Array,
    allowed: (vma: MapsEntry) => boolean,
    transfer: (from: bigint, part: Uint8Array) => number,
  ): Promise<number> {
    let done = 0;
    while (done < bytes.length) {
      const at = address + BigInt(done);
      const vma = this.findVma(at);
      if (!vma || !allowed(vma)) break;
      const part = bytes.subarray(done, Math.min(bytes.length, done + Number(vma.end - at)));
      const count = transfer(at, part);
      done += count;
      if (count < part.length) break;
    }
    return done;
  }

  /** Holds the frames of pages; what the process does with the pages afterwards is its own affair. */
  async pin(address: bigint, write: boolean, keepZeroPage = false, most = 1): Promise<PinnedPages> {
    if (this.devices.has(address)) return this.#pinDevice(address, write);
    const result = await this.fault(address, write ? Access.WRITE : Access.READ);
    const page = Number(address >> PAGE_SHIFT);
    const resident = this.mappings.pages.get(page);
    if (result !== "ok" || !resident) {
      throw new IommuError("EFAULT", `page 0x${address.toString(16)} of ${this.owner} cannot be pinned: ${result}`);
    }
    const { pa } = resident;
    // At once: who waits for the mmap_lock may be about to unmap it.
    this.#hold(pa);
    const reserved = keepZeroPage && !write && this.files.showsZeroPage(address);
    const pages = keepZeroPage ? 1 : await this.mmapLock.with(async () => this.#extend(page, pa, write, most));
    const frames = Array.from({ length: pages }, (_, i) => pa + i * PAGE_SIZE);
    for (const frame of frames.slice(1)) this.#hold(frame);
    const unpin = () => {
      for (const frame of frames) this.#unpin(frame);
    };
    return { pa, pages, reserved, unpin };
  }

  #hold(pa: number): void {
    this.#pins.set(pa, (this.#pins.get(pa) ?? 0) + 1);
  }

  /** Makes pages resident as long as they follow the first in its mapping and in the frames. @returns how many there are */
  #extend(first: number, pa: number, write: boolean, most: number): number {
    if (this.mappings.pages.get(first)?.pa !== pa) return 1;
    const address = BigInt(first) << PAGE_SHIFT;
    const vma = this.findVma(address);
    const limit = vma ? Math.min(most, Number(vma.end >> PAGE_SHIFT) - first) : 1;
    const inMemory = this.files.resident(address, limit);
    let pages = 1;
    for (; vma && pages < limit; pages++) {
      const next = this.mappings.pages.get(first + pages);
      const frame = pa + pages * PAGE_SIZE;
      if (next && (next.pa !== frame || (write && (next.flags & PageFlag.WRITE) === 0))) break;
      if (next) continue;
      const at = address + BigInt(pages * PAGE_SIZE);
      if (!inMemory[pages] && this.files.read(at, new Uint8Array(1)) === 0) break;
      if (!this.frames.claim(frame, this.files, at)) break;
      this.#show(first + pages, frame, flagsOf(vma) | PageFlag.ACCESSED | (write ? PageFlag.DIRTY : 0));
    }
    return pages;
  }

  /** A table that cannot grow goes without the entry: a fault brings it. */
  #show(page: number, pa: number, flags: number): void {
    try {
      this.mappings.add(page, pa, flags);
    } catch (error) {
      if (!isErrno(error, "ENOMEM")) throw error;
    }
  }

  /** A BAR's pages have no struct page: they are mapped for DMA, and cost nothing. */
  #pinDevice(address: bigint, write: boolean): PinnedPages {
    const pa = this.devices.page(address, write);
    if (pa === undefined)
      throw new IommuError("EFAULT", `the BAR at 0x${address.toString(16)} of ${this.owner} does not answer`);
    return { pa, pages: 1, reserved: true, unpin: () => {} };
  }

  #unpin(pa: number): void {
    const pins = (this.#pins.get(pa) ?? 0) - 1;
    if (pins > 0) this.#pins.set(pa, pins);
    else {
      this.#pins.delete(pa);
      if (this.#freed.delete(pa)) this.frames.free(pa);
    }
  }

  /**
   * Looks at the process again: an exit or an exec ends this address space, a mapping that went or lost rights leaves
   * the tables. @returns false when the process is gone
   */
  async refresh(): Promise<boolean> {
    if (this.#gone || this.mmUsers === 0) return false;
    if (!this.files.alive()) {
      this.#gone = true;
      // The process's own reference: with it go the notifiers, the mappings and the files.
      await this.mmput();
      return false;
    }
    await this.mmapLock.with(() => this.#revalidate());
    return true;
  }

  async #revalidate(): Promise<void> {
    this.#readMaps();
    const lost: number[] = [];
    const narrowed: number[] = [];
    this.mappings.pages.forEach(0, Number.POSITIVE_INFINITY, (page, { flags }) => {
      const vma = findEntry(this.#maps, BigInt(page) << PAGE_SHIFT);
      if (!vma?.read) lost.push(page);
      else if (flagsOf(vma) !== (flags & (PageFlag.WRITE | PageFlag.EXEC | PageFlag.USER))) narrowed.push(page);
    });
    for (const page of lost) await this.mappings.remove(page, page + 1);
    for (const page of narrowed) {
      const vma = findEntry(this.#maps, BigInt(page) << PAGE_SHIFT);
      const set = vma ? flagsOf(vma) : 0;
      await this.mappings.update(page, page + 1, set, (PageFlag.WRITE | PageFlag.EXEC) & ~set);
    }
  }

  protected async makeResident(vma: MapsEntry, page: number, write: boolean): Promise<FaultResult> {
    const address = BigInt(page) << PAGE_SHIFT;
    // Reading a byte makes the host's kernel fault the page in; 0 bytes: the page is beyond the end of its file, or all is gone.
    if (this.files.read(address, new Uint8Array(1)) === 0) return "bus";
    const state = PageFlag.ACCESSED | (write ? PageFlag.DIRTY : 0);
    this.mappings.add(page, this.frames.allocate(this.files, address), flagsOf(vma) | state);
    return "ok";
  }

  protected async makeWritable(vma: MapsEntry, page: number, _resident: ResidentPage): Promise<FaultResult> {
    await this.mappings.update(page, page + 1, flagsOf(vma) | PageFlag.ACCESSED | PageFlag.DIRTY, 0);
    return "ok";
  }

  protected freePage(pa: number): void {
    if (this.#pins.has(pa)) this.#freed.add(pa);
    else this.frames.free(pa);
  }

  protected closeMappings(): void {
    this.#maps = [];
    this.devices.clear();
    this.files.close();
  }

  /** Rights may have come since the mappings were read last. */
  override fault(address: bigint, access: number): Promise<FaultResult> {
    if (this.#stale && this.mmUsers > 0) this.#readMaps();
    const vma = this.findVma(address);
    if (vma && this.mmUsers > 0 && !permits(vma, access)) this.#readMaps();
    return super.fault(address, access);
  }

  #readMaps(): void {
    this.#stale = false;
    this.#maps = this.files.maps().filter(({ end }) => end <= ADDRESS_END);
  }
}

function flagsOf(vma: MapsEntry): number {
  return PageFlag.USER | (vma.write ? PageFlag.WRITE : 0) | (vma.exec ? PageFlag.EXEC : 0);
}

function permits(vma: MapsEntry, access: number): boolean {
  const wants = (bit: number) => (access & bit) !== 0;
  return (!wants(Access.READ) || vma.read) && (!wants(Access.WRITE) || vma.write) && (!wants(Access.EXEC) || vma.exec);
}
