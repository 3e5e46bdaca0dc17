/**
 * A source of live processes for a platform: BIND with a pid that is no task of the platform finds the process of this
 * machine. Who may do that is decided by the host's kernel, as for ptrace.
 */
import { AddressSpaces, type Mm, type Platform, type ServicePlugin, SystemBus, type Task } from "@iommukit/core";
import { LiveFrames, type LiveFramesOptions } from "./live-frames.js";
import { LiveMm } from "./live-mm.js";
import { ProcessFiles, threadGroupOf } from "./process-files.js";

/** `liveProcesses()` makes it. */
export class LiveProcesses implements ServicePlugin {
  readonly name = "live processes";
  readonly frames: LiveFrames;
  readonly #mms = new Map<number, LiveMm>();
  #platform: Platform | undefined;

  constructor(frames?: LiveFramesOptions) {
    this.frames = new LiveFrames(frames);
  }

  async install(platform: Platform): Promise<void> {
    this.#platform = platform;
    platform.resolve(SystemBus).attach(this.frames);
    platform.kernel.sources.push({ mmAccess: (_caller: Task, pid: number) => this.#mmAccess(pid) });
  }

  async #mmAccess(pidOrThread: number): Promise<Mm | null | undefined> {
    const pid = threadGroupOf(pidOrThread);
    if (pid === undefined) return undefined;
    const known = this.#mms.get(pid);
    if (known && (await known.refresh()) && known.mmgetNotZero()) return known;
    const files = ProcessFiles.open(pid);
    if (!files || !this.#platform) return undefined;
    if (!files.hasMemory) {
      files.close();
      return null;
    }
    const mm = new LiveMm(this.#platform.resolve(AddressSpaces), files, this.frames);
    this.#mms.set(pid, mm);
    mm.mmget();
    return mm;
  }

  /** The address space of a process that was found by pid before. */
  mmOf(pid: number): LiveMm | undefined {
    return this.#mms.get(pid);
  }

  /** Looks at every process again. Call it inside of the machine, as often as exits and unmaps are to be noticed. */
  async refresh(): Promise<void> {
    for (const [pid, mm] of this.#mms) {
      if (!(await mm.refresh())) this.#mms.delete(pid);
    }
  }

  /** Lets go of every process; they run on. */
  async close(): Promise<void> {
    for (const mm of this.#mms.values()) if (mm.mmUsers > 0) await mm.mmput();
    this.#mms.clear();
  }

  leaks(): readonly string[] {
    return [...this.#mms.values()].flatMap((mm) =>
      mm.mmUsers > 1 ? [`${mm.mmUsers - 1} references to ${mm.owner}`] : [],
    );
  }
}

/**
 * Running processes of this machine, for BIND by pid. Linux only.
 * @param frames where their pages are in the physical address space
 */
export function liveProcesses(frames?: LiveFramesOptions): LiveProcesses {
  return new LiveProcesses(frames);
}
