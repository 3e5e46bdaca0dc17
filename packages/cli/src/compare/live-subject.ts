/** A running process of this machine: a child of ours, or one that the user names by pid. */
import { readFileSync, readlinkSync } from "node:fs";
import { IommuError, type Platform, type ServicePlugin } from "@iommukit/core";
import { LiveProcesses, type MapsEntry, ProcessFiles } from "@iommukit/host-linux";
import { ChildSubject } from "./child-process.js";
import type { KnownRange, Subject, SubjectSource } from "./subject.js";

const BUFFER_SIZE = 512 * 1024;
/** More of a file than this is not compared. */
const FILE_LIMIT = 64 * 1024 * 1024;

export class LiveSource implements SubjectSource {
  readonly kind: "child" | "live";
  readonly description: string;
  readonly mayKill: boolean;
  readonly #services = new Map<Platform, LiveProcesses>();

  private constructor(
    private readonly files: ProcessFiles,
    private readonly child: ChildSubject | undefined,
  ) {
    this.kind = child ? "child" : "live";
    this.mayKill = child !== undefined;
    this.description = `${child ? "child process" : "process"} ${files.pid} (${commandOf(files.pid)})`;
  }

  /** @param buffers one for each platform */
  static async child(buffers: number): Promise<LiveSource> {
    const child = await ChildSubject.start(buffers, BUFFER_SIZE, `iommukit ${process.pid} buffer `);
    return new LiveSource(open(child.pid), child);
  }

  /** @throws IommuError ESRCH, EACCES */
  static process(pid: number): LiveSource {
    return new LiveSource(open(pid), undefined);
  }

  services(): readonly ServicePlugin[] {
    const live = new LiveProcesses();
    return [
      {
        name: live.name,
        install: (platform) => this.#install(live, platform),
        close: () => live.close(),
        leaks: () => live.leaks(),
      },
    ];
  }

  async #install(live: LiveProcesses, platform: Platform): Promise<void> {
    this.#services.set(platform, live);
    await live.install(platform);
  }

  async on(platform: Platform, index: number): Promise<Subject> {
    const { files, child } = this;
    const live = this.#services.get(platform);
    return {
      pid: files.pid,
      file: mappedFile(files),
      args: argumentStrings(files),
      buffer: child?.locate(files, index),
      confirm: async () => child?.contents(index) ?? new Uint8Array(0),
      refresh: async () => {
        await live?.refresh();
        return live?.mmOf(files.pid) !== undefined;
      },
    };
  }

  async kill(): Promise<void> {
    await this.child?.kill();
  }

  async release(): Promise<void> {
    await this.child?.kill();
    this.files.close();
  }
}

function open(pid: number): ProcessFiles {
  const files = ProcessFiles.open(pid);
  if (!files) throw new IommuError("ESRCH", `no process has pid ${pid}`);
  if (files.maps().length === 0) throw new IommuError("ESRCH", `process ${pid} has no address space (a kernel thread)`);
  return files;
}

/** Also of one that nobody has waited for: it has a pid, and no program any more. */
export function hasEnded(pid: number): boolean {
  try {
    readlinkSync(`/proc/${pid}/exe`);
    return false;
  } catch {
    return true;
  }
}

function commandOf(pid: number): string {
  return readFileSync(`/proc/${pid}/comm`, "utf8").trim();
}

/** The largest executable mapping of a file that can be read on disk: code is mapped as it stands in the file. */
function mappedFile(files: ProcessFiles): KnownRange {
  const exe = readlinkSync(`/proc/${files.pid}/exe`);
  const size = ({ start, end }: MapsEntry) => Number(end - start);
  const rank = (entry: MapsEntry) => size(entry) + (entry.name === exe ? 2 ** 40 : 0);
  const code = files
    .maps()
    .filter(({ exec, write, inode, name }) => exec && !write && inode !== 0 && name.startsWith("/"));
  for (const entry of code.sort((a, b) => rank(b) - rank(a))) {
    const bytes = bytesOnDisk(`/proc/${files.pid}/root${entry.name}`, entry.offset, Math.min(size(entry), FILE_LIMIT));
    if (bytes) return { address: entry.start, length: bytes.length, name: entry.name, bytes };
  }
  throw new IommuError("ENODATA", `process ${files.pid} maps no file that can be read on disk`);
}

function bytesOnDisk(path: string, offset: number, length: number): Uint8Array | undefined {
  try {
    return readFileSync(path).subarray(offset, offset + length);
  } catch {
    return undefined;
  }
}

/** Fields 48 and 49 of /proc/PID/stat: where the argument strings lie. */
function argumentStrings(files: ProcessFiles): KnownRange {
  const stat = readFileSync(`/proc/${files.pid}/stat`, "latin1");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const bytes = readFileSync(`/proc/${files.pid}/cmdline`);
  return { address: BigInt(fields[45]), length: bytes.length, name: `/proc/${files.pid}/cmdline`, bytes };
}
