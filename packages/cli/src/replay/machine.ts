/** One configuration's machine that replays a trace: an IOMMU, and a device with its DMA domain for each address space. */
import {
  after,
  createPlatform,
  type Device,
  FlushQueue,
  type IommuDomain,
  IommuError,
  IommuProt,
  iommuMap,
  iommuUnmapFast,
  type MaySleep,
  newGather,
  type Platform,
  Random,
} from "@iommukit/core";
import { edu } from "@iommukit/pci-device";
import { type Accesses, accesses } from "./access-pattern.js";
import { AccessProbe } from "./access-probe.js";
import type { Configuration } from "./configuration.js";
import { addNamed, type Counts, newCounts } from "./counts.js";
import type { TraceEvent } from "./trace-line.js";

/** Lazy mode: the machine's clock follows the trace's in steps of this many nanoseconds. */
const CLOCK_STEP = 1_000_000;
/** Room for the tables of 512 GiB of 4 KiB pages; none of it is taken before it is touched. */
const RAM = { base: 0x1_0000_0000, size: 0x4000_0000 };
/** PCI devices of a bus. */
const SLOTS = 32;

export type Step =
  | { readonly phase: string; readonly time: number }
  /** `space` is undefined for an unmap of what the trace did not map. */
  | { readonly event: TraceEvent; readonly space: number | undefined };

export interface Phase {
  readonly name: string;
  /** By address space; what belongs to none (invalidations that a timer started, skipped events) stands in `rest`. */
  readonly spaces: Counts[];
  readonly rest: Counts;
  /** Pages of translation tables: most of them, and at the end. */
  peakTables: number;
  tables: number;
}

/** One address space's side of the machine. */
interface Side {
  readonly device: Device;
  readonly domain: IommuDomain;
  readonly accesses: Accesses | undefined;
  /** The DMA API's flush queue of a lazy domain; undefined where the driver keeps one itself, behind iotlbSync. */
  readonly queue: FlushQueue | undefined;
}

export class ReplayMachine {
  readonly phases: Phase[] = [];
  readonly #sides: Side[] = [];
  readonly #probe: AccessProbe | undefined;
  readonly #random: Random;
  #phase: Phase;
  /** Where counts go now. */
  #counts: Counts;
  #space: number | undefined;
  #commands: Readonly<Record<string, number>>;
  /** Pages in use that are no translation tables. */
  #fixed: number;
  #clock = 0;

  private constructor(
    readonly configuration: Configuration,
    private readonly platform: Platform,
  ) {
    const { access } = configuration;
    this.#fixed = fixedPages(platform);
    this.#commands = platform.iommus[0].chip.commandsConsumed();
    this.#phase = this.#enter("before the first phase");
    this.#counts = this.#phase.rest;
    this.#random = new Random(access?.seed ?? 0);
    if (access) this.#probe = new AccessProbe(platform, () => this.#counts);
  }

  static async start(configuration: Configuration): Promise<ReplayMachine> {
    const { backend, mode } = configuration;
    const iommu = backend.plugin({ strict: mode === "strict" });
    return new ReplayMachine(configuration, await createPlatform({ iommus: [iommu], ram: [RAM] }));
  }

  /** Replays steps in order. */
  async run(steps: readonly Step[]): Promise<void> {
    await this.platform.run(async () => {
      for (let n = 0; n < steps.length; n++) {
        const wait = this.#step(steps[n]);
        if (wait) await wait;
      }
    }, "replay");
    this.#settle();
    this.#phase.tables = this.tables;
  }

  #step(step: Step): MaySleep {
    if ("phase" in step) return this.#turn(step.phase);
    const { event, space } = step;
    const late = this.configuration.mode === "lazy" && this.#late(event);
    const known = space === undefined || space < this.#sides.length;
    if (known && !late) return this.#replay(event, space);
    return this.#prepare(late, event, space).then(() => this.#replay(event, space));
  }

  async #prepare(late: boolean, { time }: TraceEvent, space = 0): Promise<void> {
    if (late) await this.#follow(time);
    if (space >= this.#sides.length) await this.#plug(space + 1);
  }

  #replay(event: TraceEvent, space: number | undefined): MaySleep {
    if (space !== this.#space) this.#charge(space);
    if (space === undefined) return this.#skip();
    return event.kind === "map" ? this.#map(this.#sides[space], event) : this.#unmap(this.#sides[space], event);
  }

  /** Pages of translation tables now. */
  get tables(): number {
    return this.platform.pages.inUse - this.#fixed;
  }

  /** Commands consumed so far, those of attachments too. */
  get commands(): Readonly<Record<string, number>> {
    return this.#commands;
  }

  close(): void {
    this.#probe?.close();
  }

  #enter(name: string, tables = 0): Phase {
    const phase = { name, spaces: [], rest: newCounts(), peakTables: tables, tables };
    this.phases.push(phase);
    return phase;
  }

  #turn(name: string): undefined {
    this.#settle();
    this.#phase.tables = this.tables;
    this.#phase = this.#enter(name, this.tables);
    this.#charge(undefined);
  }

  /** What happens from now on is of that space. */
  #charge(space: number | undefined): void {
    this.#settle();
    this.#space = space;
    if (space === undefined) this.#counts = this.#phase.rest;
    else {
      this.#phase.spaces[space] ??= newCounts();
      this.#counts = this.#phase.spaces[space];
    }
  }

  /** Commands since the last time go to whoever is charged. */
  #settle(): void {
    const before = this.#commands;
    this.#commands = this.platform.iommus[0].chip.commandsConsumed();
    for (const [name, count] of Object.entries(this.#commands)) {
      const more = count - (before[name] ?? 0);
      if (more > 0) addNamed(this.#counts.commands, { [name]: more });
    }
  }

  /** A device for each new address space, when its first event comes. Attaching it is not counted. */
  async #plug(spaces: number): Promise<void> {
    this.#settle();
    while (this.#sides.length < spaces) this.#sides.push(await this.#side(this.#sides.length));
    this.#commands = this.platform.iommus[0].chip.commandsConsumed();
    this.#fixed = fixedPages(this.platform);
  }

  async #side(index: number): Promise<Side> {
    const { access, pages } = this.configuration;
    const hex = (value: number) => value.toString(16).padStart(2, "0");
    const bdf = `0000:${hex(1 + Math.floor(index / SLOTS))}:${hex(index % SLOTS)}.0`;
    const [device] = await this.platform.plug(edu({ bdf }));
    const domain = device.group?.domain;
    if (domain === undefined) throw new Error(`${bdf} has no domain`);
    if (pages === "4k") domain.pgsizeBitmap &= -domain.pgsizeBitmap;
    const touch = (page: number) => this.#probe?.read(device.rid, page);
    return {
      device,
      domain,
      accesses: access && accesses(access.pattern, (below) => this.#random.below(below), touch),
      queue:
        domain.type === "dma-fq" && !("flushQueue" in domain)
          ? new FlushQueue(this.platform.scheduler, () => domain.ops.flushIotlbAll(domain))
          : undefined,
    };
  }

  #skip(): undefined {
    this.#counts.unmaps++;
    this.#counts.skipped++;
  }

  #map(side: Side, event: TraceEvent): MaySleep {
    this.#counts.maps++;
    const { iova, paddr, bytes } = event;
    const mapped = iommuMap(side.domain, iova, paddr, bytes, IommuProt.READ | IommuProt.WRITE);
    return after(mapped, () => this.#mapped(side, event))?.catch((error) => this.#refused(error));
  }

  #mapped({ accesses }: Side, { size, page, pages }: TraceEvent): undefined {
    this.#counts.mapped += size;
    const { tables } = this;
    if (tables > this.#phase.peakTables) this.#phase.peakTables = tables;
    accesses?.mapped(page, pages);
  }

  #refused(error: unknown): void {
    if (!(error instanceof IommuError)) throw error;
    this.#counts.refused++;
  }

  #unmap({ domain, queue, accesses }: Side, { iova, bytes, page, pages }: TraceEvent): MaySleep {
    this.#counts.unmaps++;
    accesses?.unmapping(page, pages);
    const gather = newGather(this.configuration.mode === "lazy");
    iommuUnmapFast(domain, iova, bytes, gather);
    return queue === undefined ? domain.ops.iotlbSync(domain, gather) : queue.queue(() => {});
  }

  /** The machine's clock is behind the trace's, which its first event sets. */
  #late({ time }: TraceEvent): boolean {
    if (this.#clock === 0) this.#clock = time;
    return time - this.#clock >= CLOCK_STEP;
  }

  /** Lets the time pass that passed in the trace; what timers start then is of no space. */
  async #follow(time: number): Promise<void> {
    this.#charge(undefined);
    await this.platform.scheduler.sleep(time - this.#clock);
    this.#clock = time;
  }
}

/** Queues, stream tables and their like: what maps and unmaps do not change. */
function fixedPages({ pages }: Platform): number {
  let fixed = 0;
  for (const [owner, count] of pages.usage()) if (!owner.includes("page table")) fixed += count;
  return fixed;
}
