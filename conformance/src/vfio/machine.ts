/** The machine of a transcript: built from its header and the table of configurations. */
import { type TranscriptHeader, transcriptMachine } from "@iommukit/cli/machines";
import { IommuError, PAGE_SIZE, type Platform, type Task } from "@iommukit/core";
import { groupType, reservedRegions } from "@iommukit/host-linux";
import { EduDma } from "./edu-dma.js";
import { asQemu } from "./qemu-quirks.js";
import type { TranscriptStep } from "./transcript.js";

export class Machine {
  private constructor(
    readonly platform: Platform,
    readonly header: TranscriptHeader,
  ) {}

  /** @throws UnknownMachine */
  static async of(header: TranscriptHeader): Promise<Machine> {
    const { platform } = await transcriptMachine(header);
    return new Machine(platform, header);
  }

  bdfOf(letter: string): string {
    return this.header.devices[letter].bdf;
  }

  groupOf(letter: string): number {
    return this.platform.devices.get(this.bdfOf(letter))?.group?.id ?? -1;
  }

  /** What sysfs says of a group: its reserved regions, one a line, and the type of its default domain. */
  sysfs(path: string): Readonly<Record<string, unknown>> {
    const letter = /\$group\((\w)\)/.exec(path)?.[1] ?? "";
    const group = this.platform.devices.get(this.header.devices[letter]?.bdf ?? "")?.group;
    if (!group) return { lines: [] };
    return { lines: reservedRegions(group), type: groupType(group) };
  }

  /** mlock's own check of RLIMIT_MEMLOCK. @throws IommuError ENOMEM */
  checkMemlock(task: Task, pages: number): void {
    const locked = task.mm?.lockedVm ?? 0;
    if (task.credentials.capabilities.has("CAP_IPC_LOCK") || (locked + pages) * PAGE_SIZE <= task.limits.memlock)
      return;
    throw new IommuError("ENOMEM", `${locked} + ${pages} pages are more than RLIMIT_MEMLOCK`);
  }

  notMappable(name: string): never {
    throw new IommuError("ENODEV", `${name} cannot be mapped`);
  }

  openEdu(task: Task, fd: number): Promise<EduDma> {
    return EduDma.open(this.platform, task, fd);
  }

  /** For these transcripts the recorder let the kernel's rate limit run out before each access that may fault. */
  get #paused(): boolean {
    return this.header.config.endsWith("-faults");
  }

  async pauseBefore(what: string): Promise<void> {
    if (this.#paused && PAUSED.some((word) => what.includes(word))) await this.platform.scheduler.sleep(PAUSE);
  }

  /** Every line where the recorder paused; elsewhere the rate limit dropped some: only whether any came. */
  faultsOf(line: TranscriptStep, log: readonly string[]): Readonly<Record<string, unknown>> {
    const recorded = line.faults as readonly string[];
    if (this.#paused)
      return {
        faults: asQemu(this.header, line, log.map(asRecorded)),
      };
    return recorded.length > 0 && log.length === 0 ? { faults: [] } : {};
  }
}

/** The kernel's log escapes a tab, and the recorder writes an apostrophe for what JSON would escape. */
function asRecorded(text: string): string {
  return text.replaceAll("\t", "\\x09").replace(/["\\]/g, "'");
}

/** Parts of the descriptions of accesses that the recorder paused before. */
const PAUSED = ["unmap", "READ mapping", "WRITE mapping", "READ iova", "beyond", "2^", "0xfee"];
const PAUSE = 6_000_000_000;
