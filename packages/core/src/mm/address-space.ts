/**
 * A simulated process's address space and the system calls that shape it. Addresses are chosen as Linux does without
 * randomisation: mappings downwards from below the stack's room, the heap above the program. Refusals throw IommuError
 * and change nothing. Not here: swapping, NUMA, hugetlbfs, userfaultfd.
 */
import { IommuError } from "../kernel/errno.js";
import { PAGE_SHIFT, PAGE_SIZE } from "../memory/address.js";
import type { Backing } from "./backing.js";
import { DemandPaging, type SimulatedEnvironment } from "./demand-paging.js";
import { forkAddressSpace } from "./fork.js";
import { collapseBlock } from "./huge-pages.js";
import { mergePages } from "./ksm.js";
import { type Advice, madvise } from "./madvise.js";
import { type MmapOptions, mmap, type Prot, rights } from "./mmap.js";
import { type MremapOptions, mremap } from "./mremap.js";
import { addressOf, pageOf } from "./page-number.js";
import { PageFlag } from "./page-table/page-table.js";
import type { Vma, VmaOwner } from "./vma.js";

const HEAP_START = 0x5555_5556_0000n;

/** `task.memory` of a simulated process. Addresses and lengths are bytes. */
export class AddressSpace extends DemandPaging implements VmaOwner {
  /** First page that user addresses do not reach; the last page of the half stays free, as on x86. */
  readonly endPage: number;
  #break = HEAP_START;

  constructor(environment: SimulatedEnvironment, owner: string) {
    super(environment, owner);
    this.endPage = 2 ** (environment.addressBits - PAGE_SHIFT) - 1;
  }

  /**
   * @returns the address
   * @throws IommuError EINVAL; ENOMEM no room; EEXIST taken, with "noreplace"; EACCES shared and writable without mayWrite
   */
  mmap(options: MmapOptions): Promise<bigint> {
    return this.locked(() => mmap(this, options));
  }

  /** What is not mapped is passed over. @throws IommuError EINVAL */
  async munmap(address: bigint, length: number): Promise<void> {
    const [first, limit] = this.range(address, length);
    return this.locked(() => this.unmap(first, limit));
  }

  /** @throws IommuError EINVAL; ENOMEM when part of the range is not mapped; EACCES */
  async mprotect(address: bigint, length: number, prot: Prot): Promise<void> {
    const [first, limit] = this.range(address, length);
    const { read, write, exec } = rights(prot);
    return this.locked(async () => {
      this.#mustCover(first, limit);
      if (write && this.vmaList.overlapping(first, limit).some((vma) => !vma.mayWrite)) {
        throw new IommuError("EACCES", `0x${address.toString(16)} maps a file that is not open for writing`);
      }
      for (const vma of await this.isolate(first, limit)) {
        const hides = vma.accessible && prot === "none";
        const shows = !vma.accessible && prot !== "none";
        Object.assign(vma, { read, write, exec });
        if (hides) await this.mappings.hide(vma.first, vma.limit);
        // A private page becomes writable when somebody writes: it may have to be copied.
        const set = (write && vma.shared ? PageFlag.WRITE : 0) | (exec ? PageFlag.EXEC : 0);
        const clear = (write ? 0 : PageFlag.WRITE) | (exec ? 0 : PageFlag.EXEC);
        await this.mappings.update(vma.first, vma.limit, set, clear);
        if (shows) this.mappings.unhide(vma.first, vma.limit);
      }
      this.vmaList.merge(first, limit);
    });
  }

  /** @returns the new address. @throws IommuError EINVAL; EFAULT not one whole mapping; ENOMEM no room */
  mremap(address: bigint, oldLength: number, newLength: number, options: MremapOptions = {}): Promise<bigint> {
    return this.locked(() => mremap(this, address, oldLength, newLength, options));
  }

  /** @throws IommuError EINVAL; ENOMEM when part of the range is not mapped */
  async madvise(address: bigint, length: number, advice: Advice): Promise<void> {
    const [first, limit] = this.range(address, length);
    return this.locked(async () => {
      this.#mustCover(first, limit);
      await madvise(this, first, limit, advice);
    });
  }

  /** Moves the end of the heap. @returns where it is now: the old end when there is no room; without argument the end */
  brk(address = 0n): Promise<bigint> {
    return this.locked(async () => {
      const [start, old, next] = [HEAP_START, this.#break, address].map((at) => pageOf(at + BigInt(PAGE_SIZE - 1)));
      if (next < start) return this.#break;
      if (next < old) await this.unmap(next, old);
      if (next > old) {
        if (!this.vmaList.isFree(old, next) || next > this.endPage) return this.#break;
        await mmap(this, { address: addressOf(old), fixed: true, length: (next - old) * PAGE_SIZE, name: "[heap]" });
      }
      this.#break = address;
      return address;
    });
  }

  inheritBreak(parent: AddressSpace): void {
    this.#break = parent.#break;
  }

  /** Faults the range in and keeps count in lockedVm; RLIMIT_MEMLOCK is the caller's. @throws IommuError EINVAL, ENOMEM */
  mlock(address: bigint, length: number): Promise<void> {
    return this.#setLocked(address, length, true);
  }

  munlock(address: bigint, length: number): Promise<void> {
    return this.#setLocked(address, length, false);
  }

  async #setLocked(address: bigint, length: number, locked: boolean): Promise<void> {
    const [first, limit] = this.range(address, length);
    return this.locked(async () => {
      this.#mustCover(first, limit);
      for (const vma of await this.isolate(first, limit)) {
        if (vma.locked !== locked) this.lockedVm += locked ? vma.pages : -vma.pages;
        vma.locked = locked;
      }
      this.vmaList.merge(first, limit);
      if (locked && !(await this.populate(first, limit))) {
        throw new IommuError(
          "ENOMEM",
          `part of 0x${address.toString(16)}+0x${length.toString(16)} cannot be faulted in`,
        );
      }
    });
  }

  /** A copy-on-write copy, for another process. @throws IommuError ENOMEM */
  fork(owner: string): Promise<AddressSpace> {
    return this.locked(() => forkAddressSpace(this, new AddressSpace(this.environment, owner)));
  }

  /** khugepaged: turns the 2 MiB around the address into one block. @returns whether it could */
  collapse(address: bigint): Promise<boolean> {
    return this.locked(() => collapseBlock(this, pageOf(address)));
  }

  /** Splits the block that holds the address, as reclaim does. */
  split(address: bigint): Promise<void> {
    return this.locked(() => this.mappings.split(pageOf(address)));
  }

  /** KSM: two private pages of equal content become one. @returns whether they did */
  merge(kept: bigint, merged: bigint): Promise<boolean> {
    return this.locked(() => mergePages(this, pageOf(kept), pageOf(merged)));
  }

  /** Page aging, as reclaim does it. @returns whether a page of the range was accessed since the last time */
  async age(address: bigint, length: number): Promise<boolean> {
    const [first, limit] = this.range(address, length);
    return this.locked(() => this.mappings.age(first, limit));
  }

  zap(backing: Backing, firstIndex: number, limitIndex: number): Promise<void> {
    return this.mmapLock.with(async () => {
      for (const vma of this.vmaList.all) {
        if (vma.backing !== backing) continue;
        const first = Math.max(vma.first, vma.first + firstIndex - vma.offset);
        const limit = Math.min(vma.limit, vma.first + limitIndex - vma.offset);
        if (first < limit) await this.mappings.remove(first, limit);
      }
    });
  }

  // What the system calls are made of. The caller holds the mmap_lock.

  /** @throws IommuError ESRCH when the last user is gone */
  locked<T>(body: () => Promise<T>): Promise<T> {
    return this.mmapLock.with(() => {
      if (this.mmUsers === 0) throw new IommuError("ESRCH", `${this.owner} has exited`);
      return body();
    });
  }

  /** Pages of a byte range that must start on a page. @throws IommuError EINVAL */
  range(address: bigint, length: number): [first: number, limit: number] {
    const first = pageOf(address);
    const limit = first + Math.ceil(length / PAGE_SIZE);
    if (addressOf(first) !== address || !(length > 0) || limit > this.endPage) {
      throw new IommuError(
        "EINVAL",
        `no page range of user addresses: 0x${address.toString(16)}+0x${length.toString(16)}`,
      );
    }
    return [first, limit];
  }

  #mustCover(first: number, limit: number): void {
    if (this.vmaList.covers(first, limit)) return;
    throw new IommuError(
      "ENOMEM",
      `not all of 0x${addressOf(first).toString(16)}-0x${addressOf(limit).toString(16)} is mapped`,
    );
  }

  /** Borders of mappings and of blocks at both ends. @returns the mappings between them */
  async isolate(first: number, limit: number): Promise<Vma[]> {
    await this.mappings.splitAt(first);
    await this.mappings.splitAt(limit);
    return this.vmaList.isolate(first, limit);
  }

  async unmap(first: number, limit: number): Promise<void> {
    const gone = this.vmaList.cut(first, limit);
    if (gone.length === 0) return;
    await this.mappings.remove(first, limit);
    for (const vma of gone) {
      if (vma.locked) this.lockedVm -= vma.pages;
      vma.close();
    }
  }

  /** @returns whether every page that allows access could be faulted in */
  async populate(first: number, limit: number): Promise<boolean> {
    let complete = true;
    for (const vma of this.vmaList.overlapping(first, limit)) {
      if (!vma.accessible) continue;
      const end = Math.min(limit, vma.limit);
      const write = vma.write && !vma.shared;
      for (let page = Math.max(first, vma.first); page < end; page++) {
        const resident = this.mappings.pages.get(page);
        if (resident && (!write || (resident.flags & PageFlag.WRITE) !== 0)) continue;
        if ((await this.faultIn(vma, page, write)) !== "ok") complete = false;
      }
    }
    return complete;
  }
}
