/** mmap(2). The caller holds the mmap_lock. */
import { IommuError } from "../kernel/errno.js";
import type { FileMapping } from "../kernel/file.js";
import { PAGE_SIZE } from "../memory/address.js";
import type { AddressSpace } from "./address-space.js";
import { DeviceBacking } from "./backing.js";
import { MemoryFile } from "./memory-file.js";
import { addressOf, BLOCK_PAGES, pageOf } from "./page-number.js";
import { Vma } from "./vma.js";

/** PROT_READ, PROT_WRITE and PROT_EXEC. */
export type Prot = "none" | "r" | "w" | "x" | "rw" | "rx" | "wx" | "rwx";

/** Arguments of mmap(2); private anonymous memory, "rw", when nothing else is said. */
export interface MmapOptions {
  /** Bytes; rounded up to pages. */
  readonly length: number;
  /** "rw" when absent. */
  readonly prot?: Prot;
  /** MAP_SHARED instead of MAP_PRIVATE. */
  readonly shared?: boolean;
  /** A hint, or with `fixed` the place. */
  readonly address?: bigint;
  /** MAP_FIXED: what is there goes. "noreplace": MAP_FIXED_NOREPLACE. */
  readonly fixed?: boolean | "noreplace";
  /** What is mapped: a file in memory, or what a driver's mmap gave. Anonymous memory when neither is given. */
  readonly file?: MemoryFile;
  readonly device?: FileMapping;
  /** Byte offset in the file, a multiple of the page size. */
  readonly offset?: number;
  /** The file is open for writing: a shared mapping may be or become writable. True when absent. */
  readonly mayWrite?: boolean;
  /** MAP_POPULATE: faults every page in. */
  readonly populate?: boolean;
  /** MAP_LOCKED. */
  readonly locked?: boolean;
  /** A stack, which grows when the CPU touches the pages below it, but not for devices. */
  readonly growsDown?: boolean;
  /** As in /proc/PID/maps. */
  readonly name?: string;
}

/** The first mapping ends this far below the end: room for the stack. */
const STACK_ROOM = 0x800_0000 / PAGE_SIZE;
/** vm.mmap_min_addr. */
const LOWEST = 0x1_0000 / PAGE_SIZE;

export function rights(prot: Prot): { read: boolean; write: boolean; exec: boolean } {
  return { read: prot.includes("r"), write: prot.includes("w"), exec: prot.includes("x") };
}

export async function mmap(space: AddressSpace, options: MmapOptions): Promise<bigint> {
  const pages = Math.ceil(options.length / PAGE_SIZE);
  const { file, device, prot = "rw", offset = 0, shared = false, mayWrite = true, locked = false } = options;
  if (!(pages > 0)) throw new IommuError("EINVAL", `mmap of ${options.length} bytes`);
  if (offset % PAGE_SIZE !== 0)
    throw new IommuError("EINVAL", `mmap at file offset ${offset}, not a multiple of ${PAGE_SIZE}`);
  if (shared && !mayWrite && rights(prot).write)
    throw new IommuError("EACCES", "a file that is not open for writing cannot be mapped shared and writable");
  const first = place(space, pages, options);
  const limit = first + pages;
  await space.unmap(first, limit);
  // Shared anonymous memory is a file that nobody else can open.
  const anonymous =
    shared && !file && !device
      ? new MemoryFile(space.environment, "/dev/zero (deleted)", pages * PAGE_SIZE)
      : undefined;
  const vma = new Vma({
    owner: space,
    first,
    limit,
    ...rights(prot),
    shared,
    mayWrite: mayWrite || !shared,
    name: options.name ?? (file ?? anonymous)?.name ?? "",
    backing: device ? new DeviceBacking(device) : (file ?? anonymous),
    offset: offset / PAGE_SIZE,
    growsDown: options.growsDown ?? false,
    locked,
    hugePages: "default",
    dontFork: false,
  });
  anonymous?.close();
  space.vmaList.insert(vma);
  space.vmaList.merge(first, limit);
  if (locked) space.lockedVm += pages;
  if (locked || options.populate) await space.populate(first, limit);
  return addressOf(first);
}

function place(space: AddressSpace, pages: number, { address, fixed, growsDown }: MmapOptions): number {
  if (address !== undefined && fixed) {
    const [first, limit] = space.range(address, pages * PAGE_SIZE);
    if (fixed === "noreplace" && !space.vmaList.isFree(first, limit)) {
      throw new IommuError("EEXIST", `something is mapped at 0x${address.toString(16)}`);
    }
    return first;
  }
  const hint = address === undefined ? 0 : pageOf(address);
  if (hint >= LOWEST && hint + pages <= space.endPage && space.vmaList.isFree(hint, hint + pages)) return hint;
  return freePages(space, pages, growsDown ? space.endPage : space.endPage - STACK_ROOM);
}

/** Whole blocks are placed on a 2 MiB border, so that huge pages fit. @throws IommuError ENOMEM */
export function freePages(space: AddressSpace, pages: number, top = space.endPage - STACK_ROOM): number {
  const first = space.vmaList.highestGap(pages, LOWEST, top, pages % BLOCK_PAGES === 0 ? BLOCK_PAGES : 1);
  if (first === undefined) throw new IommuError("ENOMEM", `no ${pages} free pages in a row in ${space.owner}`);
  return first;
}
