/**
 * The server behind the library that programs load: their system calls on /dev/vfio and what it leads to, carried out by the
 * platform's kernel. An open file is a connection; when it ends, the file is closed.
 */
import { chmodSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { ERRNO, IommuError, isErrno, O, OpenFile, PAGE_SIZE, type Platform, type Task } from "@iommukit/core";
import { SharedMapping } from "../device-mappings.js";
import { LiveFrames, type LiveFramesOptions } from "../live-frames.js";
import { Broker } from "./broker.js";
import { Connection, type ConnectionHandler } from "./connection.js";
import { kernelLogNode } from "./kernel-log.js";
import { BridgedProcess } from "./process.js";
import { CURRENT, NOT_A_NODE, Op, type Reply, ReplyFlag, type Request } from "./protocol.js";
import { RealTime } from "./real-time.js";

export interface BridgeOptions {
  /** An empty directory for the sockets; the programs' IOMMUKIT_RUN. */
  readonly directory: string;
  /** 32 characters that a program has to know; its IOMMUKIT_KEY. */
  readonly key: string;
  /** The compiled shim/broker.c. */
  readonly broker: string;
  /** Where the programs' pages are in the physical address space. */
  readonly frames?: LiveFramesOptions;
  /** What uname tells programs; this machine's when absent. */
  readonly kernel?: { readonly release: string; readonly version: string; readonly machine: string };
}

/** SYNC: nothing is asked but that everything that was closed before has been released. */
const DONE: Reply = {};
const PROT_WRITE = 2n;
const SHARED = 0x100n;
/** struct utsname: fields of 65 characters; sysname and nodename come before, the domain after. */
const UTSNAME_FIELD = 65;

export class Bridge implements ConnectionHandler {
  readonly #server: Server;
  readonly #time: RealTime;
  readonly #frames: LiveFrames;
  readonly #processes = new Map<number, BridgedProcess>();
  readonly #owners = new Map<Connection, BridgedProcess>();
  /** Open files by the inode of the program's end. */
  readonly #files = new Map<number, OpenFile>();
  readonly #fileConnections = new Map<Connection, number>();
  /** Files that an ioctl has made and its program has not opened a connection for yet. */
  readonly #tokens = new Map<number, { readonly file: OpenFile; readonly pid: number }>();
  readonly #mappings = new Map<number, SharedMapping>();
  readonly #connections = new Set<Connection>();
  readonly #releasing = new Set<Promise<void>>();
  readonly #errors: unknown[] = [];
  #nextToken = 1;
  #nextMapping = 1;

  private constructor(
    private readonly platform: Platform,
    private readonly broker: Broker,
    private readonly options: BridgeOptions,
  ) {
    this.#frames = new LiveFrames(options.frames);
    platform.bus.attach(this.#frames);
    platform.kernel.nodes.set("/dev/kmsg", kernelLogNode(platform.kernel));
    this.#time = new RealTime(platform, (error) => this.#errors.push(error));
    const key = Buffer.from(options.key, "latin1");
    this.#server = createServer((socket) => this.#connections.add(new Connection(socket, key, this)));
  }

  static async start(platform: Platform, options: BridgeOptions): Promise<Bridge> {
    const broker = await Broker.start(options.broker, `${options.directory}/broker`, options.key);
    const bridge = new Bridge(platform, broker, options);
    const path = `${options.directory}/bridge`;
    await new Promise<void>((resolve, reject) => bridge.#server.once("error", reject).listen(path, resolve));
    // A program may become another user; the key decides who is served.
    chmodSync(path, 0o777);
    return bridge;
  }

  /** Programs that are connected. */
  get processes(): number {
    return this.#processes.size;
  }

  /** Errors that were nobody's answer: bugs of the platform's. */
  get errors(): readonly unknown[] {
    return this.#errors;
  }

  /** Ends every connection, as if all programs had exited, and gives everything back. */
  async close(): Promise<void> {
    for (const connection of [...this.#connections]) connection.close();
    await this.settle();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#time.stop();
    await this.broker.stop();
  }

  /** Everything that programs have closed, or left at their end, is released when this returns. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < 2; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
    while (this.#releasing.size > 0) await Promise.all(this.#releasing);
  }

  async request(connection: Connection, request: Request): Promise<Reply> {
    try {
      return await this.#serve(connection, request);
    } catch (error) {
      if (isErrno(error)) return { error: error.errno };
      this.#errors.push(error);
      return { error: ERRNO.EIO };
    }
  }

  ended(connection: Connection): void {
    this.#connections.delete(connection);
    const owner = this.#owners.get(connection);
    this.#owners.delete(connection);
    if (owner?.connections.delete(connection) && owner.connections.size === 0) this.#release(() => this.#exit(owner));
    const inode = this.#fileConnections.get(connection);
    if (inode === undefined) return;
    this.#fileConnections.delete(connection);
    const file = this.#files.get(inode);
    this.#files.delete(inode);
    if (file) this.#release(() => this.#put(file));
  }

  #release(body: () => Promise<void>): void {
    const done = this.#time
      .run(body, "release")
      .catch((error) => this.#errors.push(error))
      .then(() => void this.#releasing.delete(done));
    this.#releasing.add(done);
  }

  async #put(file: OpenFile): Promise<void> {
    await file.put();
    const { trace } = this.platform;
    if (file.references === 0 && trace.enabled) trace.emit("file:closed", { file: file.ops.name });
  }

  async #exit(owner: BridgedProcess): Promise<void> {
    const { pid } = owner.task;
    this.#processes.delete(pid);
    await owner.task.exit();
    for (const [token, waiting] of this.#tokens) {
      if (waiting.pid !== pid) continue;
      this.#tokens.delete(token);
      await this.#put(waiting.file);
    }
  }

  async #serve(connection: Connection, request: Request): Promise<Reply> {
    switch (request.op) {
      case Op.HELLO:
        return this.#hello(connection, request);
      case Op.OPEN:
        return this.#open(connection, request);
      case Op.ADOPT:
        return this.#adopt(connection, request);
      case Op.SYNC:
        await this.settle();
        return DONE;
      case Op.SLEEP:
        await this.#time.skip(Number(request.a));
        return DONE;
    }
    const caller = this.#caller(request);
    const reply = await this.#time.run(() => this.#operate(caller, request), caller.task.name);
    return caller.mm.mappings.pages.size > 0 ? { ...reply, flags: (reply.flags ?? 0) | ReplyFlag.WATCH } : reply;
  }

  /** A process connects, or a thread of it. What an exec or an exit before it has left is gone first. */
  async #hello(connection: Connection, { pid, a }: Request): Promise<Reply> {
    await this.settle();
    let owner = this.#processes.get(pid);
    if (!owner) {
      const create = async () => BridgedProcess.create(this.platform, pid, this.#frames, this.broker, this.#files);
      owner = await this.#time.run(create, `process ${pid}`);
      const parent = this.#processes.get(Number(a));
      if (parent) owner.mm.devices = parent.mm.devices.clone();
      this.#processes.set(pid, owner);
    }
    owner.connections.add(connection);
    this.#owners.set(connection, owner);
    return { payload: this.#utsname() };
  }

  #utsname(): Uint8Array {
    const bytes = Buffer.alloc(6 * UTSNAME_FIELD);
    const { kernel } = this.options;
    if (kernel)
      for (const [i, text] of [kernel.release, kernel.version, kernel.machine].entries())
        bytes.write(text.slice(0, UTSNAME_FIELD - 1), (2 + i) * UTSNAME_FIELD, "latin1");
    return bytes;
  }

  #caller(request: Request): BridgedProcess {
    const caller = this.#processes.get(request.pid);
    if (!caller) throw new IommuError("ESRCH", `process ${request.pid} has not connected`);
    caller.update(request);
    caller.mm.expire();
    return caller;
  }

  async #open(connection: Connection, request: Request): Promise<Reply> {
    await this.settle();
    const path = Buffer.from(request.payload).toString();
    const flags = Number(request.a);
    const node = this.platform.kernel.nodes.get(path);
    if (!node) return { error: NOT_A_NODE };
    const { task } = this.#caller(request);
    const { trace } = this.platform;
    const report = (error?: IommuError) => {
      if (trace.enabled) trace.emit("file:opened", { task: task.name, pid: task.pid, path, error: error?.code });
    };
    try {
      const ops = await this.#time.run(() => node.open(task, flags), task.name);
      this.#become(connection, request, new OpenFile(ops, flags));
      report();
      return DONE;
    } catch (error) {
      if (isErrno(error)) report(error);
      throw error;
    }
  }

  async #adopt(connection: Connection, request: Request): Promise<Reply> {
    const token = Number(request.a);
    const waiting = this.#tokens.get(token);
    if (!waiting) throw new IommuError("EBADF", `no file waits under the number ${token}`);
    this.#tokens.delete(token);
    this.#become(connection, request, waiting.file);
    return DONE;
  }

  #become(connection: Connection, { b }: Request, file: OpenFile): void {
    const inode = Number(b);
    this.#files.set(inode, file);
    this.#fileConnections.set(connection, inode);
  }

  async #operate(caller: BridgedProcess, request: Request): Promise<Reply> {
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
    const found = this.#files.get(file);
    if (!found) throw new IommuError("EBADF", `socket ${file} is no open file`);
    return found;
  }

  async #ioctl({ task, fds }: BridgedProcess, request: Request): Promise<Reply> {
    const { ops } = this.#file(request);
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
      if (!ops.ioctl) throw new IommuError("ENOTTY", `${ops.name} has no ioctls`);
      const result = await ops.ioctl(task, number, task.pointer(request.b));
      report(result);
      const file = fds.takeInstalled();
      const handovers = fds.takeHandovers();
      if (!file) return { result, handovers };
      const token = this.#nextToken++;
      this.#tokens.set(token, { file, pid: task.pid });
      return { result: token, flags: ReplyFlag.NEW_FILE, handovers };
    } catch (error) {
      fds.takeHandovers();
      if (isErrno(error)) report(-error.errno, error);
      throw error;
    }
  }

  async #read(task: Task, request: Request): Promise<Reply> {
    const file = this.#file(request);
    const { ops } = file;
    const into = new Uint8Array(Number(request.a));
    const position = request.b === CURRENT ? file.position : Number(request.b);
    const result = await this.#accessed(task, file, position, into.length, false, async () => {
      if (!ops.read) throw new IommuError("EINVAL", `${ops.name} cannot be read`);
      return ops.read(task, into, position);
    });
    if (request.b === CURRENT) file.position += result;
    return { result, payload: into.subarray(0, result) };
  }

  async #write(task: Task, request: Request): Promise<Reply> {
    const file = this.#file(request);
    const { ops } = file;
    const position = request.b === CURRENT ? file.position : Number(request.b);
    const result = await this.#accessed(task, file, position, request.payload.length, true, async () => {
      if (!ops.write) throw new IommuError("EINVAL", `${ops.name} cannot be written`);
      return ops.write(task, Uint8Array.from(request.payload), position);
    });
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
