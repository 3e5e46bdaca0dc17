/**
 * The server behind the library that programs load: their system calls on /dev/vfio and what it leads to, carried out by the
 * platform's kernel. An open file is a connection; when it ends, the file is closed.
 */
import { chmodSync } from "node:fs";
import { createServer, type Server } from "node:net";
import {
  ERRNO,
  IommuError,
  isErrno,
  type Mm,
  OpenFile,
  type Platform,
  type ProcessSource,
  type Task,
} from "@iommukit/core";
import { LiveFrames, type LiveFramesOptions } from "../live-frames.js";
import { threadGroupOf } from "../process-files.js";
import { Broker } from "./broker.js";
import { Connection, type ConnectionHandler } from "./connection.js";
import { kernelLogNode } from "./kernel-log.js";
import { BridgedProcess } from "./process.js";
import { NOT_A_NODE, Op, type Reply, ReplyFlag, type Request } from "./protocol.js";
import { RealTime } from "./real-time.js";
import { SystemCalls } from "./system-calls.js";

/** Where the bridge listens, and for whom. */
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
/** struct utsname: fields of 65 characters; sysname and nodename come before, the domain after. */
const UTSNAME_FIELD = 65;

/** `Bridge.start` listens, `close` ends every connection. */
export class Bridge implements ConnectionHandler {
  readonly #server: Server;
  readonly #time: RealTime;
  readonly #frames: LiveFrames;
  readonly #processes = new Map<number, BridgedProcess>();
  readonly #owners = new Map<Connection, BridgedProcess>();
  readonly #fileConnections = new Map<Connection, number>();
  readonly #calls: SystemCalls;
  readonly #connections = new Set<Connection>();
  readonly #releasing = new Set<Promise<void>>();
  readonly #errors: unknown[] = [];
  readonly #bystanders: ProcessSource = { mmAccess: (caller, pid) => this.#mmAccess(caller, pid) };

  private constructor(
    private readonly platform: Platform,
    private readonly broker: Broker,
    private readonly options: BridgeOptions,
  ) {
    this.#frames = new LiveFrames(options.frames);
    this.#calls = new SystemCalls(platform);
    platform.bus.attach(this.#frames);
    platform.kernel.nodes.set("/dev/kmsg", kernelLogNode(platform.kernel));
    platform.kernel.sources.push(this.#bystanders);
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
    return [...this.#processes.values()].filter(({ connections }) => connections.size > 0).length;
  }

  /** Errors that were nobody's answer: bugs of the platform's. */
  get errors(): readonly unknown[] {
    return this.#errors;
  }

  /** Ends every connection, as if all programs had exited, and gives everything back. */
  async close(): Promise<void> {
    for (const connection of [...this.#connections]) connection.close();
    await this.settle();
    const { sources } = this.platform.kernel;
    sources.splice(sources.indexOf(this.#bystanders), 1);
    for (const bystander of [...this.#processes.values()]) await this.#time.run(() => this.#exit(bystander), "release");
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
    const file = this.#calls.files.get(inode);
    this.#calls.files.delete(inode);
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
    for (const [token, waiting] of this.#calls.tokens) {
      if (waiting.pid !== pid) continue;
      this.#calls.tokens.delete(token);
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
    const carryOut = async () => {
      await this.#lookAround();
      return this.#calls.carryOut(caller, request);
    };
    const reply = await this.#time.run(carryOut, caller.task.name);
    return caller.mm.mappings.pages.size > 0 ? { ...reply, flags: (reply.flags ?? 0) | ReplyFlag.WATCH } : reply;
  }

  /** A process connects, or a thread of it. What an exec or an exit before it has left is gone first. */
  async #hello(connection: Connection, { pid, a }: Request): Promise<Reply> {
    await this.settle();
    let owner = this.#processes.get(pid);
    if (!owner) {
      const create = async () =>
        BridgedProcess.create(this.platform, pid, this.#frames, this.broker, this.#calls.files);
      owner = await this.#time.run(create, `process ${pid}`);
      this.#processes.set(pid, owner);
    }
    const parent = this.#processes.get(Number(a));
    if (parent && owner.connections.size === 0) owner.mm.devices = parent.mm.devices.clone();
    owner.connections.add(connection);
    this.#owners.set(connection, owner);
    return { payload: this.#utsname() };
  }

  /** find_get_task_by_vpid for a thread, or for a process that has made no call yet: another of the machine, bound by its pid. */
  async #mmAccess(caller: Task, pidOrThread: number): Promise<Mm | undefined> {
    const pid = threadGroupOf(pidOrThread);
    if (pid === undefined) return undefined;
    if (!this.platform.kernel.tasks.has(pid))
      this.#processes.set(pid, BridgedProcess.create(this.platform, pid, this.#frames, this.broker, this.#calls.files));
    return this.platform.kernel.mmAccess(caller, pid);
  }

  /** Who makes no calls does not tell that it has ended or changed its mappings. It is asked before the calls of others. */
  async #lookAround(): Promise<void> {
    for (const owner of [...this.#processes.values()]) {
      if (owner.connections.size > 0) continue;
      const { mm } = owner;
      const inUse = mm.mmUsers > 1 || mm.mappings.notifiers.size > 0;
      if (inUse && mm.files.alive() && (await mm.refresh())) continue;
      // It has ended since: its memory has been let go of.
      if (mm.gone) owner.task.mm = undefined;
      await this.#exit(owner);
    }
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
    const waiting = this.#calls.tokens.get(token);
    if (!waiting) throw new IommuError("EBADF", `no file waits under the number ${token}`);
    this.#calls.tokens.delete(token);
    this.#become(connection, request, waiting.file);
    return DONE;
  }

  #become(connection: Connection, { b }: Request, file: OpenFile): void {
    const inode = Number(b);
    this.#calls.files.set(inode, file);
    this.#fileConnections.set(connection, inode);
  }
}
