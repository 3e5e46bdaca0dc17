/**
 * The descriptors of a running process. What a number stands for is read from /proc/PID/fd when somebody asks: a file of the
 * bridge is a socket with an inode that the bridge knows, an eventfd gets an id under which the program hands it over.
 */
import { readlinkSync } from "node:fs";
import { FdTable, IommuError, O, OpenFile, type Scheduler } from "@iommukit/core";
import type { Broker } from "./broker.js";

export class LiveFdTable extends FdTable {
  readonly #installed: OpenFile[] = [];
  readonly #handovers: [number, number][] = [];

  constructor(
    private readonly pid: number,
    private readonly files: ReadonlyMap<number, OpenFile>,
    private readonly broker: Broker,
    private readonly scheduler: Scheduler,
  ) {
    super();
  }

  override get(fd: number): OpenFile {
    const link = this.#link(fd);
    const inode = /^socket:\[(\d+)\]$/.exec(link)?.[1];
    const file = inode === undefined ? undefined : this.files.get(Number(inode));
    if (file) return file;
    if (link !== "anon_inode:[eventfd]") return new OpenFile({ name: link }, O.RDWR);
    const { id, event } = this.broker.adopt(this.scheduler);
    this.#handovers.push([id, fd]);
    return new OpenFile(event, O.RDWR);
  }

  #link(fd: number): string {
    try {
      return readlinkSync(`/proc/${this.pid}/fd/${fd}`);
    } catch {
      throw new IommuError("EBADF", `descriptor ${fd} of process ${this.pid} is not open`);
    }
  }

  /** The program gets its number when it has opened a connection for the file. */
  override install(file: OpenFile): number {
    this.#installed.push(file);
    return 0;
  }

  /** What an ioctl has installed since the last call. */
  takeInstalled(): OpenFile | undefined {
    return this.#installed.shift();
  }

  takeHandovers(): [number, number][] {
    return this.#handovers.splice(0);
  }
}
