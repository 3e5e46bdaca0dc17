/** The kernel's tables: tasks by pid, device nodes by path, the log. */
import type { Mm } from "../mm/mm.js";
import type { Tracer } from "../trace/tracer.js";
import { IommuError } from "./errno.js";
import type { DeviceNode } from "./file.js";
import type { Scheduler } from "./scheduler.js";
import { Task, type TaskOptions } from "./task.js";

/** Finds processes that are not tasks of the platform: the live processes of the machine it runs on. */
export interface ProcessSource {
  /**
   * mm_access(task, PTRACE_MODE_ATTACH_REALCREDS): the address space with a user reference taken.
   * @returns undefined when there is no such process; null when it has no address space
   * @throws IommuError EACCES or EPERM as ptrace rules give
   */
  mmAccess(caller: Task, pid: number): Promise<Mm | null | undefined>;
}

/** How a platform makes address spaces; the simulated one unless a plugin replaces it. */
export interface MmFactory {
  create(owner: string): Mm;
  /** @throws IommuError EINVAL for an address space that cannot be copied */
  fork(mm: Mm, owner: string): Promise<Mm>;
}

/** `platform.kernel`: spawns tasks, holds `log`, which is dmesg. */
export class Kernel {
  readonly nodes = new Map<string, DeviceNode>();
  readonly tasks = new Map<number, Task>();
  readonly sources: ProcessSource[] = [];
  /** Printed lines, as dmesg shows them, without the time stamp. */
  readonly log: string[] = [];
  /** failslab: asked, with the name of the structure, at each allocation that can fail. Tests and explorers replace it. */
  allocationFails: (what: string) => boolean = () => false;
  #nextPid = 1;
  #nextDomainId = 0;

  constructor(
    readonly scheduler: Scheduler,
    readonly trace: Tracer,
    private readonly mms: MmFactory,
  ) {}

  /** A new process with an address space of its own, unless one is given. */
  spawn(options: TaskOptions = {}): Task {
    const pid = options.pid ?? this.nextPid();
    if (this.tasks.has(pid)) throw new IommuError("EEXIST", `pid ${pid} is in use`);
    const name = options.name ?? `task-${pid}`;
    const mm = options.mm ?? this.mms.create(`pid ${pid} (${name})`);
    const task = new Task(this, pid, name, mm, options);
    this.tasks.set(pid, task);
    if (this.trace.enabled) this.trace.emit("task:started", { pid, task: name });
    return task;
  }

  /** The lowest pid that was never given out and is not in use. */
  nextPid(): number {
    while (this.tasks.has(this.#nextPid)) this.#nextPid++;
    return this.#nextPid++;
  }

  /** Domains are numbered over all IOMMUs of the machine, for traces and messages. */
  nextDomainId(): number {
    return this.#nextDomainId++;
  }

  /** An empty address space, for exec. */
  createMm(owner: string): Mm {
    return this.mms.create(owner);
  }

  forkMm(mm: Mm, owner: string): Promise<Mm> {
    return this.mms.fork(mm, owner);
  }

  remove(task: Task): void {
    this.tasks.delete(task.pid);
  }

  /**
   * find_get_task_by_vpid and mm_access: the address space of a process that the caller may trace, with a user
   * reference taken.
   * @throws IommuError ESRCH no such process, or it has no address space; EACCES the caller may not trace it (F28)
   */
  async mmAccess(caller: Task, pid: number): Promise<Mm> {
    const task = this.tasks.get(pid);
    if (task) return this.#mmOfTask(caller, task);
    for (const source of this.sources) {
      const mm = await source.mmAccess(caller, pid);
      if (mm) return mm;
      if (mm === null) throw new IommuError("ESRCH", `process ${pid} has no address space`);
    }
    throw new IommuError("ESRCH", `no process has pid ${pid}`);
  }

  /** mm_access: without an address space nobody asks who the caller is, and its own it may always have. */
  async #mmOfTask(caller: Task, task: Task): Promise<Mm> {
    const { mm } = task;
    if (!mm?.mmgetNotZero()) throw new IommuError("ESRCH", `process ${task.pid} has no address space`);
    if (mm === caller.mm || mayTrace(caller, task)) return mm;
    await mm.mmput();
    const ids = (of: Task) => `uid ${of.credentials.uid}, gid ${of.credentials.gid}`;
    throw new IommuError(
      "EACCES",
      `pid ${caller.pid} (${ids(caller)}) may not trace pid ${task.pid} (${ids(task)}${task.dumpable ? "" : ", not dumpable"})`,
    );
  }

  printk(line: string): void {
    this.log.push(line);
    if (this.trace.enabled) this.trace.emit("log:printed", { line });
  }
}

/**
 * __ptrace_may_access with PTRACE_MODE_REALCREDS: the caller's real ids are all of the target's, which is dumpable and can
 * do nothing that the caller cannot (cap_ptrace_access_check); or CAP_SYS_PTRACE.
 */
function mayTrace({ credentials: caller }: Task, { credentials: target, dumpable }: Task): boolean {
  if (caller.capabilities.has("CAP_SYS_PTRACE")) return true;
  const { uid, gid } = caller;
  const sameUser = [target.uid, target.euid, target.suid].every((id) => id === uid);
  const sameGroup = [target.gid, target.egid ?? target.gid, target.sgid ?? target.gid].every((id) => id === gid);
  return sameUser && sameGroup && dumpable && [...target.capabilities].every((each) => caller.capabilities.has(each));
}
