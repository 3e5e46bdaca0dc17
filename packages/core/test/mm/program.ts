/**
 * mm operations on address spaces and on a plain map of pages at once. After each: what the CPU reads, what a device
 * behind a translation cache reads, what the tables allow, what the notifiers heard. At the end: what is left.
 */
import { isDeepStrictEqual } from "node:util";
import {
  Access,
  type AddressSpace,
  isErrno,
  type MemoryFile,
  type Mm,
  type MmuNotifier,
  type PageTableFormat,
  type PinnedPages,
  type Prot,
} from "../../src/index.js";
import { walkPageTable } from "../../src/testing/index.js";
import type { World } from "./world.js";

const BASE = 0x4000_0000n;
export const WINDOW = 1100;
export const FILE_PAGES = 24;
const FORMATS: PageTableFormat[] = ["vmsav8-64", "x86-64"];

/** Borders of blocks, where the interesting things happen, and what is looked at after each operation. */
const near = (page: number) => page < 16 || (page >= 500 && page < 524) || page >= 1014;

const va = (page: number) => BASE + BigInt(page) * 4096n;

/** The bytes of one page: who shares the object shares the bytes. */
interface Cell {
  value: number;
}

interface RefPage {
  read: boolean;
  write: boolean;
  exec: boolean;
  shared: boolean;
  cell: Cell;
  /** Index in the file. */
  index?: number;
  /** Still shows the file's own page. */
  borrowed: boolean;
}

interface RefPin {
  readonly cell: Cell;
  readonly pin: PinnedPages;
}

/** A process, its reference, and a device with one translation cache per format. */
export class Process implements MmuNotifier {
  pages = new Map<number, RefPage>();
  readonly tlbs = FORMATS.map(() => new Map<bigint, { pa: number; read: boolean; write: boolean }>());
  /** What the tables allowed before the operation, and what was invalidated since. */
  before = new Map<bigint, { pa: number | undefined; read: boolean; write: boolean; exec: boolean }[]>();
  told: [start: bigint, end: bigint][] = [];

  constructor(
    readonly mm: AddressSpace,
    readonly world: World,
  ) {
    mm.registerNotifier(this);
  }

  async release(): Promise<void> {
    this.#drop(0n, 1n << 64n);
  }

  async invalidateRange(_mm: Mm, start: bigint, end: bigint): Promise<void> {
    // While the notifier sleeps the old translation is still in use, and the page must not be free.
    await this.world.scheduler.sleep(100);
    this.#drop(start, end);
  }

  async clearFlushYoung(_mm: Mm, start: bigint, end: bigint): Promise<boolean> {
    this.#drop(start, end);
    return false;
  }

  async changePte(_mm: Mm, address: bigint): Promise<void> {
    this.#drop(address, address + 4096n);
  }

  #drop(start: bigint, end: bigint): void {
    this.told.push([start, end]);
    for (const tlb of this.tlbs) for (const at of tlb.keys()) if (at >= start && at < end) tlb.delete(at);
  }

  cached(pa: number): boolean {
    return this.tlbs.some((tlb) => [...tlb.values()].some((entry) => entry.pa === pa));
  }

  /** A device's access: cached translation, else a walk, else a fault and another try. */
  async deviceReach(format: number, page: number, write: boolean): Promise<number | undefined> {
    const at = va(page);
    for (let attempt = 0; attempt < 4; attempt++) {
      let entry = this.tlbs[format].get(at);
      if (!entry) {
        const walk = walkPageTable(this.world.memory, this.mm.pageTable(FORMATS[format]), at);
        if (walk.pa !== undefined && walk.accessed) {
          entry = { pa: walk.pa, read: walk.read, write: walk.write };
          this.tlbs[format].set(at, entry);
        }
      }
      if (entry && (write ? entry.write : entry.read)) return entry.pa;
      if ((await this.mm.fault(at, write ? Access.WRITE : Access.READ)) !== "ok") return undefined;
    }
    throw new Error(`the device faults again and again at page ${page}`);
  }
}

export type Op =
  | {
      op: "mmap";
      page: number;
      count: number;
      prot: Prot;
      kind: "anon" | "shared" | "file" | "sharedFile";
      index: number;
    }
  | { op: "munmap" | "dontneed" | "age"; page: number; count: number }
  | { op: "mprotect"; page: number; count: number; prot: Prot }
  | { op: "mremap"; page: number; count: number; size: number; to: number }
  | { op: "cpuWrite" | "deviceWrite"; page: number; value: number; format: number }
  | { op: "cpuRead" | "deviceRead"; page: number; format: number }
  | { op: "hugepage"; page: number; count: number }
  | { op: "collapse" | "split"; page: number }
  | { op: "merge"; page: number; other: number }
  | { op: "fork" | "exit" | "tables"; which: number }
  | { op: "pin"; page: number; write: boolean }
  | { op: "unpin" | "dma"; which: number; value: number }
  | { op: "truncate"; size: number };

export class Program {
  readonly file: MemoryFile;
  fileCells: Cell[] = Array.from({ length: FILE_PAGES }, () => ({ value: 0 }));
  filePages = FILE_PAGES;
  processes: Process[];
  pins: RefPin[] = [];

  constructor(readonly world: World) {
    this.file = world.spaces.createFile("data", FILE_PAGES * 4096);
    this.processes = [new Process(world.create("pid 1"), world)];
    world.trace.on("page:freed", ({ address, owner }) => {
      for (const process of this.processes) {
        if (process.cached(address))
          throw new Error(`0x${address.toString(16)} of ${owner} was freed while a device had it`);
      }
    });
  }

  async run(which: number, op: Op): Promise<void> {
    const process = this.processes[which % this.processes.length];
    for (const each of this.processes) this.#snapshot(each);
    await this.#apply(process, op);
    for (const each of this.processes) this.#check(each);
  }

  async #apply(process: Process, op: Op): Promise<void> {
    const { mm, pages } = process;
    const { memory } = this.world;
    switch (op.op) {
      case "mmap": {
        const count = Math.min(op.count, WINDOW - op.page);
        const options = { address: va(op.page), fixed: true, length: count * 4096, prot: op.prot } as const;
        if (op.kind === "file" || op.kind === "sharedFile")
          await mm.mmap({ ...options, file: this.file, offset: op.index * 4096, shared: op.kind === "sharedFile" });
        else await mm.mmap({ ...options, shared: op.kind === "shared" });
        for (let i = 0; i < count; i++) {
          const file = op.kind === "file" || op.kind === "sharedFile";
          pages.set(op.page + i, {
            ...rights(op.prot),
            shared: op.kind === "shared" || op.kind === "sharedFile",
            cell: file ? (this.fileCells[op.index + i] ?? { value: 0 }) : { value: 0 },
            index: file ? op.index + i : undefined,
            borrowed: op.kind === "file",
          });
        }
        return;
      }
      case "munmap":
        await mm.munmap(va(op.page), op.count * 4096);
        for (let i = 0; i < op.count; i++) pages.delete(op.page + i);
        return;
      case "dontneed": {
        const covered = range(op).every((page) => pages.has(page));
        await expectErrno(covered ? undefined : "ENOMEM", () => mm.madvise(va(op.page), op.count * 4096, "dontneed"));
        if (!covered) return;
        for (const page of range(op)) {
          const ref = pages.get(page) as RefPage;
          if (ref.shared) continue;
          ref.borrowed = ref.index !== undefined;
          ref.cell = ref.index === undefined ? { value: 0 } : (this.fileCells[ref.index] ?? { value: 0 });
        }
        return;
      }
      case "mprotect": {
        const covered = range(op).every((page) => pages.has(page));
        await expectErrno(covered ? undefined : "ENOMEM", () => mm.mprotect(va(op.page), op.count * 4096, op.prot));
        if (covered) for (const page of range(op)) Object.assign(pages.get(page) as RefPage, rights(op.prot));
        return;
      }
      case "mremap": {
        const vma = mm.findVma(va(op.page));
        const size = Math.min(op.size, WINDOW - op.to);
        const whole = vma !== undefined && vma.end >= va(op.page + op.count);
        const overlap = op.to < op.page + op.count && op.page < op.to + size;
        // What grows is the mapping's own kind; only anonymous private memory is simple to extend in the reference.
        const simple = whole && (size <= op.count || (!vma.shared && vma.name === ""));
        if (!simple) {
          if (!whole)
            await expectErrno("EFAULT", () => mm.mremap(va(op.page), op.count * 4096, size * 4096, { to: va(op.to) }));
          return;
        }
        await expectErrno(overlap ? "EINVAL" : undefined, () =>
          mm.mremap(va(op.page), op.count * 4096, size * 4096, { to: va(op.to) }),
        );
        if (overlap) return;
        const first = pages.get(op.page) as RefPage;
        for (let i = 0; i < size; i++) {
          pages.set(
            op.to + i,
            i < op.count ? (pages.get(op.page + i) as RefPage) : { ...first, cell: { value: 0 }, borrowed: false },
          );
        }
        for (let i = 0; i < op.count; i++) pages.delete(op.page + i);
        return;
      }
      case "age":
        await mm.age(va(op.page), op.count * 4096);
        return;
      case "hugepage":
        if (range(op).every((page) => pages.has(page))) await mm.madvise(va(op.page), op.count * 4096, "hugepage");
        return;
      case "collapse":
        await mm.collapse(va(op.page));
        return;
      case "split":
        await mm.split(va(op.page));
        return;
      case "merge":
        await mm.merge(va(op.page), va(op.other));
        return;
      case "cpuWrite": {
        const done = await mm.write(va(op.page) + 64n, Uint8Array.of(op.value));
        same(done, this.#writable(pages.get(op.page)) ? 1 : 0);
        if (done) this.#store(pages.get(op.page) as RefPage, op.value);
        return;
      }
      case "deviceWrite": {
        const pa = await process.deviceReach(op.format, op.page, true);
        same(pa !== undefined, this.#writable(pages.get(op.page)));
        if (pa === undefined) return;
        memory.writeBytes(pa + 64, Uint8Array.of(op.value));
        this.#store(pages.get(op.page) as RefPage, op.value);
        return;
      }
      case "cpuRead":
        return this.#checkCpu(process, op.page);
      case "deviceRead": {
        const ref = pages.get(op.page);
        const pa = await process.deviceReach(op.format, op.page, false);
        // A device may read what it may only write or execute when an entry is there already.
        if (ref?.read && !this.#beyondEnd(ref)) same(pa !== undefined, true);
        if (pa === undefined) return;
        same(ref !== undefined, true);
        same(byteAt(this.world, pa), ref?.cell.value);
        return;
      }
      case "fork": {
        if (this.processes.length >= 3) return;
        const child = new Process(await mm.fork(`pid ${this.processes.length + 1}`), this.world);
        for (const [page, ref] of pages) {
          child.pages.set(page, ref.shared || ref.borrowed ? { ...ref } : { ...ref, cell: { ...ref.cell } });
        }
        this.processes.push(child);
        return;
      }
      case "exit":
        if (this.processes.length === 1) return;
        this.processes = this.processes.filter((each) => each !== process);
        await mm.mmput();
        return;
      case "tables":
        for (const format of FORMATS) mm.pageTable(format);
        return;
      case "pin": {
        const ref = pages.get(op.page);
        const allowed = ref !== undefined && (op.write ? ref.write : ref.read) && !this.#beyondEnd(ref);
        await expectErrno(allowed ? undefined : "EFAULT", async () => {
          const pin = await mm.pin(va(op.page), op.write);
          if (!ref) return;
          if (ref.borrowed) this.#store(ref, ref.cell.value);
          this.pins.push({ cell: ref.cell, pin });
        });
        return;
      }
      case "unpin":
        this.pins.splice(op.which % (this.pins.length || 1), 1)[0]?.pin.unpin();
        return;
      case "dma": {
        const pin = this.pins[op.which % (this.pins.length || 1)];
        if (!pin) return;
        same(byteAt(this.world, pin.pin.pa), pin.cell.value);
        memory.writeBytes(pin.pin.pa + 64, Uint8Array.of(op.value));
        pin.cell.value = op.value;
        return;
      }
      case "truncate": {
        await this.file.truncate(op.size * 4096);
        for (let index = op.size; index < FILE_PAGES; index++) this.fileCells[index] = { value: 0 };
        this.filePages = op.size;
        for (const { pages: refs } of this.processes) {
          for (const ref of refs.values()) {
            if (ref.index === undefined || (ref.index < op.size && !ref.borrowed && !ref.shared)) continue;
            ref.cell = this.fileCells[ref.index] ?? { value: 0 };
            ref.borrowed = !ref.shared;
          }
        }
        return;
      }
    }
  }

  #beyondEnd(ref: RefPage): boolean {
    return ref.index !== undefined && ref.index >= this.filePages && (ref.shared || ref.borrowed);
  }

  #writable(ref: RefPage | undefined): boolean {
    return ref?.write === true && !this.#beyondEnd(ref);
  }

  #store(ref: RefPage, value: number): void {
    if (ref.borrowed) ref.cell = { value };
    else ref.cell.value = value;
    ref.borrowed = false;
  }

  async #checkCpu({ mm, pages }: Process, page: number): Promise<void> {
    const ref = pages.get(page);
    const byte = new Uint8Array(1);
    const done = await mm.read(va(page) + 64n, byte);
    same(done, ref && (ref.read || ref.write || ref.exec) && !this.#beyondEnd(ref) ? 1 : 0);
    if (done) same(byte[0], ref?.cell.value);
  }

  #walks({ mm }: Process, page: number) {
    return FORMATS.map((format) => walkPageTable(this.world.memory, mm.pageTable(format), va(page)));
  }

  #snapshot(process: Process): void {
    process.told = [];
    process.before = new Map();
    for (const page of process.pages.keys()) if (near(page)) process.before.set(va(page), this.#walks(process, page));
  }

  /** Both tables agree, allow no more than the mapping, show the right bytes; what lost a right was announced. */
  #check(process: Process): void {
    if (process.mm.mmUsers === 0) return;
    for (const [page, ref] of process.pages) {
      if (!near(page)) continue;
      const [arm, x86] = this.#walks(process, page);
      same([x86.pa, x86.read, x86.write, x86.exec, x86.shift], [arm.pa, arm.read, arm.write, arm.exec, arm.shift]);
      if (arm.pa === undefined) continue;
      same(ref.read || ref.write || ref.exec, true);
      if (arm.write) same(ref.write, true);
      if (arm.exec) same(ref.exec, true);
      same(byteAt(this.world, arm.pa), ref.cell.value);
    }
    for (const [at, walks] of process.before) {
      for (const [i, old] of walks.entries()) {
        if (old.pa === undefined) continue;
        const now = walkPageTable(this.world.memory, process.mm.pageTable(FORMATS[i]), at);
        const lost = now.pa !== old.pa || (old.write && !now.write) || (old.exec && !now.exec);
        if (lost)
          same(
            process.told.some(([start, end]) => at >= start && at < end),
            true,
          );
      }
    }
  }

  async finish(): Promise<void> {
    for (const process of this.processes) {
      for (const page of process.pages.keys()) if (near(page)) await this.#checkCpu(process, page);
    }
    for (const { mm } of this.processes) await mm.mmput();
    for (const { pin } of this.pins) pin.unpin();
    this.file.close();
    same([...this.world.pages.usage()], []);
  }
}

function rights(prot: Prot) {
  return { read: prot.includes("r"), write: prot.includes("w"), exec: prot.includes("x") };
}

function range({ page, count }: { page: number; count: number }): number[] {
  return Array.from({ length: count }, (_, i) => page + i);
}

function byteAt(world: World, pa: number): number {
  const byte = new Uint8Array(1);
  world.memory.readBytes(Math.floor(pa / 4096) * 4096 + 64, byte);
  return byte[0];
}

async function expectErrno(code: string | undefined, call: () => Promise<unknown>): Promise<void> {
  try {
    await call();
  } catch (error) {
    if (isErrno(error)) return same(error.code, code);
    throw error;
  }
  same(undefined, code);
}

function same(actual: unknown, expected: unknown): void {
  if (!isDeepStrictEqual(actual, expected)) throw new Error(`got ${show(actual)}, expected ${show(expected)}`);
}

function show(value: unknown): string {
  return (
    JSON.stringify(value, (_key, part) => (typeof part === "bigint" ? `0x${part.toString(16)}` : part)) ?? "nothing"
  );
}
