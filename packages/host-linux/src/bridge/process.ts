/** A program on the bridge: a task of the platform's whose address space and descriptors are a running process's. */
import { readFileSync } from "node:fs";
import {
  AddressSpaces,
  type Credentials,
  IommuError,
  type OpenFile,
  PAGE_SIZE,
  type Platform,
  ROOT,
  type Task,
  user,
} from "@iommukit/core";
import type { LiveFrames } from "../live-frames.js";
import { LiveMm } from "../live-mm.js";
import { ProcessFiles, statusOf } from "../process-files.js";
import type { Broker } from "./broker.js";
import type { Connection } from "./connection.js";
import { LiveFdTable } from "./live-fds.js";
import type { Request } from "./protocol.js";

export class BridgedProcess {
  readonly connections = new Set<Connection>();

  private constructor(
    readonly task: Task,
    readonly mm: LiveMm,
    readonly fds: LiveFdTable,
  ) {}

  /** @throws IommuError ESRCH no such process, or a kernel thread; EACCES it cannot be looked into */
  static create(
    platform: Platform,
    pid: number,
    frames: LiveFrames,
    broker: Broker,
    open: ReadonlyMap<number, OpenFile>,
  ): BridgedProcess {
    const files = ProcessFiles.open(pid);
    if (!files) throw new IommuError("ESRCH", `no process has pid ${pid}`);
    if (!files.hasMemory) {
      files.close();
      throw new IommuError("ESRCH", `process ${pid} has no address space`);
    }
    const mm = new LiveMm(platform.resolve(AddressSpaces), files, frames);
    mm.lockedVm = lockedPages(pid);
    const fds = new LiveFdTable(pid, open, broker, platform.scheduler);
    const task = platform.kernel.spawn({ pid, name: commandOf(pid), mm, fds, credentials: credentialsOf(euidOf(pid)) });
    return new BridgedProcess(task, mm, fds);
  }

  /** The caller as it is at this request. */
  update({ uid, memlock }: Request): void {
    this.task.credentials = credentialsOf(uid);
    this.task.limits.memlock = memlock;
  }

  /** What mlock asks first. @throws IommuError ENOMEM */
  checkLock(bytes: number): void {
    const pages = this.mm.lockedVm + Math.ceil(bytes / PAGE_SIZE);
    const { credentials, limits } = this.task;
    if (!credentials.capabilities.has("CAP_IPC_LOCK") && pages * PAGE_SIZE > limits.memlock)
      throw new IommuError("ENOMEM", `${pages} locked pages are more than RLIMIT_MEMLOCK`);
  }
}

/** The platform belongs to whoever runs it: there that user is root. */
function credentialsOf(uid: number): Credentials {
  return uid === 0 || uid === process.getuid?.() ? ROOT : user(uid);
}

function lockedPages(pid: number): number {
  return (Number.parseInt(statusOf(pid, "VmLck") ?? "0", 10) * 1024) / PAGE_SIZE;
}

/** Uid: real, effective, saved, file system. */
function euidOf(pid: number): number {
  return Number(statusOf(pid, "Uid")?.split("\t")[1]);
}

function commandOf(pid: number): string {
  return readFileSync(`/proc/${pid}/comm`, "latin1").trim();
}
