/** What programs ask of their open files and of their memory, carried out by the platform's kernel as the calling task. */
import {
  type FileOps,
  IommuError,
  isErrno,
  O,
  type OpenFile,
  PAGE_SIZE,
  type Platform,
  type Task,
} from "@iommukit/core";
import { SharedMapping } from "../device-mappings.js";
import type { BridgedProcess } from "./process.js";
import { CURRENT, Op, type Reply, ReplyFlag, type Request } from "./protocol.js";

const DONE: Reply = {};
const PROT_WRITE = 2n;
const SHARED = 0x100n;

export class SystemCalls {
  /** Open files by the inode of the program's end. */
  readonly files = new Map<number, OpenFile>();
  /** Files that an ioctl has made and its program has not opened a connection for yet. */
  readonly tokens = new Map<number, { readonly file: OpenFile; readonly pid: number }>();
  readonly #mappings = new Map<number, SharedMapping>();
  #nextToken = 1;
  #nextMapping = 1;

  constructor(private readonly platform: Platform) {}

  async carryOut(caller: BridgedProcess, request: Request): Promise<Reply> {
    const { task, mm } = caller;
    switch (request.op) {
      case Op.IOCTL:
        return this.#ioctl(caller, request);
      case Op.READ:
        return this.#read(task, request);
      case Op.WRITE:
        return this.#write(task, request);
      case Op.SEEK:
        return this.#seek(request);
      case Op.MAP:
        return this.#map(caller, request);
      case Op.ACCESS:
        return this.#access(request);
      case Op.FORGET:
        await mm.forget(request.a, request.a + request.b);
        return DONE;
      case Op.MOVE:
        await mm.move(request.a, request.b, request.c);
        return DONE;
      case Op.NAME:
        return { payload: Buffer.from(this.#file(request).ops.name) };
      case Op.PROTECT:
        await mm.refresh();
        return DONE;
      case Op.LOCKED:
        return { result: mm.lockedVm };
      case Op.LOCK_CHECK:
        caller.checkLock(Number(request.a));
        return DONE;
      case Op.LOCK_ADD:
        mm.lockedVm += Number(BigInt.asIntN(64, request.a));
        return DONE;
      default:
        throw new IommuError("ENOSYS", `the library asks for operation ${request.op}`);
    }
  }

  #file({ file }: Request): OpenFile {
    const found = this.files.get(file);
    if (!found) throw new IommuError("EBADF", `socket ${file} is no open file`);
    return found;
  }

  async #ioctl({ task, fds }: BridgedProcess, request: Request): Promise<Reply> {
    const called = this.#file(request);
    const number = Number(request.a & 0xffff_ffffn);
    const { trace } = this.platform;
    const report = (result: number, error?: IommuError) => {
      const fd = Number(request.c);
      if (trace.enabled)
        trace.emit("ioctl:returned", {
          task: task.name,
          pid: task.pid,
          fd,
          request: number,
          result,
          error: error?.code,
        });
    };
    try {
      const result = await called.use(async (ops) => {
        if (!ops.ioctl) throw new IommuError("ENOTTY", `${ops.name} has no ioctls`);
        return ops.ioctl(task, number, task.pointer(request.b));
      });
      report(result);
      const file = fds.takeInstalled();
      const handovers = fds.takeHandovers();
      if (!file) return { result, handovers };
      const token = this.#nextToken++;
      this.tokens.set(token, { file, pid: task.pid });
      return { result: token, flags: ReplyFlag.NEW_FILE, handovers };
    } catch (error) {
      fds.takeHandovers();
      if (isErrno(error)) report(-error.errno, error);
      throw error;
    }
  }

  async #read(task: Task, request: Request): Promise<Reply> {
    const file = this.#file(request);
    const into = new Uint8Array(Number(request.a));
    const position = request.b === CURRENT ? file.position : Number(request.b);
    const read = async (ops: FileOps) => {
      if (!ops.read) throw new IommuError("EINVAL", `${ops.name} cannot be read`);
      return ops.read(task, into, position);
    };
    const result = await this.#accessed(task, file, position, into.length, false, () => file.use(read));
    if (request.b === CURRENT) file.position += result;
    return { result, payload: into.subarray(0, result) };
  }

  async #write(task: Task, request: Request): Promise<Reply> {
    const file = this.#file(request);
    const position = request.b === CURRENT ? file.position : Number(request.b);
    const write = async (ops: FileOps) => {
      if (!ops.write) throw new IommuError("EINVAL", `${ops.name} cannot be written`);
      return ops.write(task, Uint8Array.from(request.payload), position);
    };
    const result = await this.#accessed(task, file, position, request.payload.length, true, () => file.use(write));
    if (request.b === CURRENT) file.position += result;
    return { result };
  }

  async #accessed(
    task: Task,
    { ops: { name } }: OpenFile,
    position: number,
    bytes: number,
    write: boolean,
    access: () => Promise<number>,
  ): Promise<number> {
    const { trace } = this.platform;
    const report = (error?: IommuError) => {
      const { name: program, pid } = task;
      if (trace.enabled)
        trace.emit("file:accessed", { task: program, pid, file: name, position, bytes, write, error: error?.code });
    };
    try {
      const count = await access();
      report();
      return count;
    } catch (error) {
      if (isErrno(error)) report(error);
      throw error;
    }
  }

  async #seek(request: Request): Promise<Reply> {
    const { ops } = this.#file(request);
    if (!ops.seek) throw new IommuError("ESPIPE", `${ops.name} has no position`);
    return { result: ops.seek(Number(BigInt.asIntN(64, request.a)), Number(request.b)) };
  }

  async #map({ task, mm }: BridgedProcess, request: Request): Promise<Reply> {
    const { ops, flags } = this.#file(request);
    const write = (request.d & PROT_WRITE) !== 0n;
    if (!ops.mmap) throw new IommuError("ENODEV", `${ops.name} cannot be mapped`);
    if (write && (flags & O.ACCMODE) !== O.RDWR)
      throw new IommuError("EACCES", `${ops.name} is open for reading alone`);
    const mapping = ops.mmap(task, Number(request.a), Number(request.b), write, (request.d & SHARED) !== 0n);
    const id = this.#nextMapping++;
    const shared = new SharedMapping(mapping, write, () => this.#mappings.delete(id));
    const pages = (request.b + BigInt(PAGE_SIZE - 1)) & ~BigInt(PAGE_SIZE - 1);
    mm.devices.add(request.c, pages, shared);
    this.#mappings.set(id, shared);
    return { result: id };
  }

  /** A load or store to a mapped BAR. @throws IommuError EFAULT: SIGBUS for the program */
  async #access({ pid, file, a, b, c, d }: Request): Promise<Reply> {
    const [offset, width, write] = [Number(a), Number(b), d !== 0n];
    const mapping = this.#mappings.get(file);
    const page = mapping?.page(offset - (offset % PAGE_SIZE));
    if (page === undefined || (write && !mapping?.writable))
      throw new IommuError("EFAULT", `nothing answers at offset ${offset} of the mapping`);
    const address = page + (offset % PAGE_SIZE);
    const bytes = Buffer.alloc(8);
    if (write) bytes.writeBigUInt64LE(c, 0);
    const part = bytes.subarray(0, width);
    const { bus, trace } = this.platform;
    if (write) bus.write(address, part);
    else if (!bus.read(address, part)) part.fill(0xff);
    if (trace.enabled) trace.emit("bar:accessed", { pid, address, width, write, value: bytes.readBigUInt64LE(0) });
    return { payload: bytes };
  }
}
