/** A process: an address space, descriptors, credentials, limits. Its system calls are methods; refusals throw IommuError. */
import { AddressSpace } from "../mm/address-space.js";
import type { Mm } from "../mm/mm.js";
import { type Credentials, type ResourceLimits, ROOT } from "./credentials.js";
import { IommuError, isErrno } from "./errno.js";
import { FdTable } from "./fd-table.js";
import { OpenFile } from "./file.js";
import type { Kernel } from "./kernel.js";
import { type UserPointer, userAddress, userBuffer } from "./user-memory.js";

/** How a task begins; what is absent is chosen: the next pid, an address space of its own, root. */
export interface TaskOptions {
  readonly name?: string;
  readonly credentials?: Credentials;
  readonly limits?: Partial<ResourceLimits>;
  /** The address space, with a user reference that is the task's; a new one when absent. */
  readonly mm?: Mm;
  readonly pid?: number;
  /** The descriptors; its own, empty, when absent. */
  readonly fds?: FdTable;
}

/** A process of the simulated machine; `kernel.spawn` makes one. */
export class Task {
  readonly limits: ResourceLimits;
  credentials: Credentials;
  /** PR_SET_DUMPABLE; a task that is not dumpable may not be traced by others without CAP_SYS_PTRACE. */
  dumpable = true;
  exited = false;
  #fds: FdTable;

  constructor(
    private readonly kernel: Kernel,
    readonly pid: number,
    readonly name: string,
    public mm: Mm | undefined,
    options: TaskOptions = {},
  ) {
    this.credentials = options.credentials ?? ROOT;
    this.limits = { memlock: Number.POSITIVE_INFINITY, ...options.limits };
    this.#fds = options.fds ?? new FdTable();
  }

  /**
   * The simulated address space: mmap, read, write as the program itself does them.
   * @throws IommuError ESRCH when the task has exited or its address space is not a simulated one
   */
  get memory(): AddressSpace {
    if (this.mm instanceof AddressSpace) return this.mm;
    throw new IommuError("ESRCH", `task ${this.pid} (${this.name}) has no simulated address space`);
  }

  get fds(): FdTable {
    return this.#fds;
  }

  /** @throws IommuError ENOENT for a path without a node, what the node's open refuses with, ESRCH when the task has exited */
  async open(path: string, flags: number): Promise<number> {
    this.#mustRun();
    const node = this.kernel.nodes.get(path);
    if (!node) throw new IommuError("ENOENT", `${path} does not exist`);
    return this.install(new OpenFile(await node.open(this, flags), flags));
  }

  /** A descriptor for what a call has opened. @throws IommuError ESRCH the task has exited meanwhile: the file is closed */
  async install(file: OpenFile): Promise<number> {
    if (this.exited) await file.put();
    this.#mustRun();
    return this.#fds.install(file);
  }

  #mustRun(): void {
    if (this.exited) throw new IommuError("ESRCH", `task ${this.pid} (${this.name}) has exited`);
  }

  async close(fd: number): Promise<void> {
    await this.#fds.close(fd);
  }

  dup(fd: number): number {
    return this.#fds.install(this.#fds.get(fd).get(), false);
  }

  /**
   * @param arg an address in this task's memory, or a buffer that stands for one and is changed in place
   * @returns what the driver returns; @throws IommuError as the driver refuses
   */
  async ioctl(fd: number, request: number, arg: Uint8Array | bigint | number = 0n): Promise<number> {
    const { trace } = this.kernel;
    const report = (result: number, error?: IommuError) => {
      if (trace.enabled)
        trace.emit("ioctl:returned", { task: this.name, pid: this.pid, fd, request, result, error: error?.code });
    };
    try {
      const result = await this.#fds.get(fd).use((ops) => {
        if (!ops.ioctl) throw new IommuError("ENOTTY", `${ops.name} has no ioctls`);
        return ops.ioctl(this, request >>> 0, this.pointer(arg));
      });
      report(result);
      return result;
    } catch (error) {
      if (isErrno(error)) report(-error.errno, error);
      throw error;
    }
  }

  /** @throws IommuError EINVAL a number that is none of C's */
  pointer(arg: Uint8Array | bigint | number): UserPointer {
    if (typeof arg === "number" && !Number.isInteger(arg)) throw new IommuError("EINVAL", `${arg} is no whole number`);
    return arg instanceof Uint8Array ? userBuffer(this.mm, arg) : userAddress(this.mm, BigInt.asUintN(64, BigInt(arg)));
  }

  /** pread / pwrite on a descriptor. */
  async pread(fd: number, into: Uint8Array, position: number): Promise<number> {
    return this.#fds.get(fd).use((ops) => {
      checkPosition(position);
      if (!ops.read) throw new IommuError("EINVAL", `${ops.name} cannot be read`);
      return ops.read(this, into, position);
    });
  }

  async pwrite(fd: number, bytes: Uint8Array, position: number): Promise<number> {
    return this.#fds.get(fd).use((ops) => {
      checkPosition(position);
      if (!ops.write) throw new IommuError("EINVAL", `${ops.name} cannot be written`);
      return ops.write(this, bytes, position);
    });
  }

  /** Same descriptors and a copy-on-write copy of the address space. @throws IommuError ESRCH the task has exited */
  async fork(name = `${this.name}-child`): Promise<Task> {
    this.#mustRun();
    const pid = this.kernel.nextPid();
    const mm = this.mm ? await this.kernel.forkMm(this.mm, `pid ${pid} (${name})`) : undefined;
    const child = this.kernel.spawn({ pid, name, credentials: this.credentials, limits: this.limits, mm });
    child.#fds = this.#fds.clone();
    child.dumpable = this.dumpable;
    return child;
  }

  /** A new, empty address space, which is dumpable; O_CLOEXEC descriptors close. @throws IommuError ESRCH the task has exited */
  async exec(mm: Mm): Promise<void> {
    this.#mustRun();
    const old = this.mm;
    this.mm = mm;
    this.dumpable = true;
    await old?.mmput();
    await this.#fds.closeAll((closeOnExec) => closeOnExec);
  }

  /** exit_mm first, then exit_files, as do_exit does. */
  async exit(): Promise<void> {
    if (this.exited) return;
    this.exited = true;
    this.kernel.remove(this);
    const { mm } = this;
    this.mm = undefined;
    await mm?.mmput();
    await this.#fds.closeAll();
    if (this.kernel.trace.enabled) this.kernel.trace.emit("task:exited", { pid: this.pid, task: this.name });
  }
}

/** Positions in a file have 63 bits; a number is exact to 53. */
function checkPosition(position: number): void {
  if (!Number.isSafeInteger(position) || position < 0)
    throw new IommuError("EINVAL", `${position} is no position in a file`);
}
