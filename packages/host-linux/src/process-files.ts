/**
 * The files of one running process under /proc. They are opened once: `mem` is bound to the address space at open time,
 * so after exec or exit it reads nothing, and a reused pid cannot be mistaken for the process.
 */
import { closeSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { IommuError } from "@iommukit/core";
import { type MapsEntry, parseMaps } from "./maps.js";

const PAGE_SIZE = 4096;
/** The last byte of a pagemap entry (Documentation/admin-guide/mm/pagemap.rst): in RAM; of a file or shared; mapped once. */
const PRESENT = 0x80;
const FILE = 0x20;
const EXCLUSIVE = 0x01;

/** `ProcessFiles.open(pid)`, with the right to trace the process. */
export class ProcessFiles {
  readonly #mem: number;
  readonly #maps: number;
  readonly #pagemap: number | undefined;
  readonly #startTime: string;
  #closed = false;

  private constructor(
    readonly pid: number,
    startTime: string,
    mem: number,
    maps: number,
    pagemap: number | undefined,
  ) {
    this.#startTime = startTime;
    this.#mem = mem;
    this.#maps = maps;
    this.#pagemap = pagemap;
  }

  /**
   * Opening `mem` makes the kernel check PTRACE_MODE_ATTACH for us.
   * @returns undefined when there is no such process
   * @throws IommuError EACCES or EPERM when the caller may not trace it
   */
  static open(pid: number): ProcessFiles | undefined {
    const opened: number[] = [];
    const open = (file: string, mode: string) => {
      const fd = openSync(`/proc/${pid}/${file}`, mode);
      opened.push(fd);
      return fd;
    };
    try {
      const startTime = startTimeOf(pid);
      if (startTime === undefined) return undefined;
      const mem = open("mem", "r+");
      const maps = open("maps", "r");
      return new ProcessFiles(
        pid,
        startTime,
        mem,
        maps,
        optional(() => open("pagemap", "r")),
      );
    } catch (error) {
      for (const fd of opened) closeSync(fd);
      return refusal(pid, error);
    }
  }

  /** False for a kernel thread. */
  get hasMemory(): boolean {
    return this.maps().length > 0;
  }

  maps(): MapsEntry[] {
    const chunks: Buffer[] = [];
    for (let position = 0; ; ) {
      const chunk = Buffer.allocUnsafe(0x10000);
      const count = readSync(this.#maps, chunk, 0, chunk.length, position);
      if (count === 0) break;
      chunks.push(chunk.subarray(0, count));
      position += count;
    }
    return parseMaps(Buffer.concat(chunks).toString("latin1"));
  }

  /** True while the process runs and still has the address space that was opened. */
  alive(): boolean {
    return !this.#closed && startTimeOf(this.pid) === this.#startTime && this.hasMemory;
  }

  /** Bytes read from `address` on; less than asked at an unmapped page, 0 when the address space is gone. */
  read(address: bigint, into: Uint8Array): number {
    if (this.#closed) return 0;
    return transfer(into.length, (done) => readSync(this.#mem, into, done, into.length - done, Number(address) + done));
  }

  /** As `read`. The kernel ignores page permissions here (FOLL_FORCE): callers check them first. */
  write(address: bigint, bytes: Uint8Array): number {
    if (this.#closed) return 0;
    return transfer(bytes.length, (done) =>
      writeSync(this.#mem, bytes, done, bytes.length - done, Number(address) + done),
    );
  }

  /** For each of `count` pages whether it is in RAM now; not known, so false, where pagemap cannot be read. */
  resident(address: bigint, count: number): readonly boolean[] {
    return Array.from(this.#states(address, count), (state) => (state & PRESENT) !== 0);
  }

  /** Whether private memory shows the kernel's shared page of zeros: it is in RAM, nobody's own, and zero. */
  showsZeroPage(address: bigint): boolean {
    const [state] = this.#states(address, 1);
    if ((state & (PRESENT | FILE | EXCLUSIVE)) !== PRESENT) return false;
    const bytes = Buffer.alloc(PAGE_SIZE);
    return this.read(address, bytes) === PAGE_SIZE && bytes.every((byte) => byte === 0);
  }

  /** The last bytes of pagemap entries. */
  #states(address: bigint, count: number): Uint8Array {
    const pagemap = this.#pagemap;
    const entries = Buffer.alloc(count * 8);
    if (pagemap !== undefined)
      transfer(entries.length, (done) =>
        readSync(pagemap, entries, done, entries.length - done, (Number(address) / PAGE_SIZE) * 8 + done),
      );
    return Uint8Array.from({ length: count }, (_, i) => entries[i * 8 + 7]);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const fd of [this.#mem, this.#maps, this.#pagemap]) if (fd !== undefined) closeSync(fd);
  }
}

/** Field 22 of /proc/PID/stat: when the process started, in ticks since boot. Undefined when it is gone or a zombie. */
function startTimeOf(pid: number): string | undefined {
  const text = optional(() => readFileSync(`/proc/${pid}/stat`, "latin1"));
  const fields = text?.slice(text.lastIndexOf(")") + 2).split(" ");
  return fields && fields[0] !== "Z" && fields[0] !== "X" ? fields[19] : undefined;
}

/** The process that a thread belongs to: they share one address space. Undefined when nobody has that pid. */
export function threadGroupOf(pid: number): number | undefined {
  const tgid = optional(() => statusOf(pid, "Tgid"));
  return tgid === undefined ? undefined : Number(tgid);
}

/** A line of /proc/PID/status. @throws as the file system does */
export function statusOf(pid: number, name: string): string | undefined {
  return new RegExp(`^${name}:\\s+(.*)`, "m").exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1];
}

function optional<T>(body: () => T): T | undefined {
  try {
    return body();
  } catch {
    return undefined;
  }
}

function transfer(length: number, step: (done: number) => number): number {
  let done = 0;
  try {
    while (done < length) {
      const count = step(done);
      if (count === 0) break;
      done += count;
    }
  } catch (error) {
    // EIO: no page there. ESRCH: the process is gone.
    if (!["EIO", "EFAULT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
  return done;
}

function refusal(pid: number, error: unknown): undefined {
  const { code } = error as NodeJS.ErrnoException;
  if (code === "ENOENT" || code === "ESRCH") return undefined;
  if (code === "EACCES" || code === "EPERM")
    throw new IommuError(code, `process ${pid} may not be traced by this user (ptrace access check)`, { cause: error });
  throw error;
}
