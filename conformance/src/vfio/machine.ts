/** The machine of a transcript: built from its header and the table of configurations. */
import {
  createPlatform,
  type DomainType,
  IommuError,
  PAGE_SIZE,
  type Platform,
  type ReservedRegion,
  type Task,
} from "@iommukit/core";
import { vfioType1 } from "@iommukit/vfio-type1";
import { configurationOf, profileOf } from "./configurations.js";
import { EduDma } from "./edu-dma.js";
import { functionsOf } from "./functions.js";
import { asQemu } from "./qemu-quirks.js";
import type { TranscriptHeader, TranscriptStep } from "./transcript.js";

/** A CPU takes an interrupt when the device has ended its burst: QEMU runs a DMA to the end before the guest goes on. */
const INTERRUPT_LATENCY = 1000;
/** Above everything that firmware places below 4 GiB. */
const RAM = [{ base: 0x1_0000_0000, size: 0x4000_0000 }];

export class Machine {
  private constructor(
    readonly platform: Platform,
    readonly header: TranscriptHeader,
  ) {}

  /** Undefined for a machine that has no model here. */
  static async of(header: TranscriptHeader): Promise<Machine | undefined> {
    const configuration = configurationOf(header);
    if (!configuration) return undefined;
    const { iommu, params, passthrough, dynamicMsix } = configuration;
    const functions = iommu ? functionsOf(header) : [];
    const platform = await createPlatform({
      iommus: iommu ? [iommu] : [],
      devices: functions.map(({ plugin }) => plugin),
      ram: RAM,
      passthrough,
      interruptLatency: INTERRUPT_LATENCY,
    });
    for (const { bdf, driver } of functions) platform.device(bdf).driver = driver === "vfio-pci" ? undefined : driver;
    const devices = functions.filter(({ driver }) => driver === "vfio-pci").map(({ bdf }) => bdf);
    const vfio = vfioType1({ profile: profileOf(header), devices, params, dynamicMsix });
    await platform.run(() => platform.addService(vfio), "vfio");
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
    const regions = group.devices.flatMap((device) => device.iommu?.ops.reservedRegions(device) ?? []);
    return {
      lines: [...new Set(sortedRegions(regions).map(sysfsLine))],
      type: sysfsType(group.defaultDomain?.type),
    };
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
        faults: asQemu(
          this.header,
          line,
          log.map((text) => text.replaceAll("\t", "'x09")),
        ),
      };
    return recorded.length > 0 && log.length === 0 ? { faults: [] } : {};
  }
}

/** Parts of the descriptions of accesses that the recorder paused before. */
const PAUSED = ["unmap", "READ mapping", "WRITE mapping", "READ iova", "beyond", "2^", "0xfee"];
const PAUSE = 6_000_000_000;

function sortedRegions(regions: readonly ReservedRegion[]): ReservedRegion[] {
  return [...regions].sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
}

function sysfsLine({ start, length, type }: ReservedRegion): string {
  const hex = (value: bigint) => `0x${value.toString(16).padStart(16, "0")}`;
  return `${hex(start)} ${hex(start + length - 1n)} ${type === "sw-msi" ? "msi" : type}`;
}

/** Kernel domains in capitals, the others not. */
function sysfsType(type: DomainType | undefined): string | undefined {
  return type?.startsWith("dma") ? type.toUpperCase() : type;
}
