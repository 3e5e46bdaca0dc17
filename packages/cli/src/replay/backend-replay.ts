/** One backend's machine that replays a trace: an IOMMU, and a device with its DMA domain for each address space. */
import {
  createPlatform,
  type Device,
  FlushQueue,
  type IommuDomain,
  IommuProt,
  iommuMap,
  iommuUnmapFast,
  newGather,
  type Platform,
} from "@iommukit/core";
import { edu } from "@iommukit/pci-device";
import { REPLAY_BACKENDS } from "./backends.js";
import { newReplayCounts, type ReplayCounts } from "./counts.js";
import type { TraceEvent } from "./trace-line.js";

/** Events between two looks at the table memory. */
const SAMPLE = 256;
/** Lazy mode: the machine's clock follows the trace's in steps of this many nanoseconds. */
const CLOCK_STEP = 1_000_000;

export interface PlacedEvent {
  readonly event: TraceEvent;
  readonly space: number;
}

export interface Phase {
  readonly name: string;
  readonly counts: ReplayCounts;
}

export class BackendReplay {
  readonly phases: Phase[] = [];
  readonly total = newReplayCounts();
  readonly #devices: Device[] = [];
  #counts = this.#enter("before the first phase");
  #done = 0;
  #clock: number | undefined;
  readonly #stop: () => void;

  private constructor(
    readonly name: string,
    private readonly platform: Platform,
    private readonly lazy: boolean,
  ) {
    this.#stop = platform.trace.on("command:consumed", ({ command }) => {
      this.total.commands[command] = (this.total.commands[command] ?? 0) + 1;
      this.#counts.commands[command] = (this.#counts.commands[command] ?? 0) + 1;
    });
  }

  static async start(name: string, lazy: boolean): Promise<BackendReplay> {
    return new BackendReplay(name, await createPlatform({ iommus: [REPLAY_BACKENDS[name](lazy)] }), lazy);
  }

  phase(name: string): void {
    this.#sample();
    this.#counts = this.#enter(name);
  }

  #enter(name: string): ReplayCounts {
    const counts = newReplayCounts();
    this.phases.push({ name, counts });
    return counts;
  }

  /** Replays events in order; those of spaces that are new get a device of their own, whose attachment is not counted. */
  async run(events: readonly PlacedEvent[], spaces: number): Promise<void> {
    await this.#plug(spaces);
    await this.platform.run(async () => {
      for (const placed of events) {
        if (this.lazy) await this.#follow(placed.event.time);
        await this.#apply(placed);
        if (++this.#done % SAMPLE === 0) this.#sample();
      }
    }, "replay");
  }

  async #plug(spaces: number): Promise<void> {
    if (this.#devices.length >= spaces) return;
    const before = { total: { ...this.total.commands }, phase: { ...this.#counts.commands } };
    await this.platform.run(async () => {
      while (this.#devices.length < spaces) {
        const bus = (this.#devices.length + 1).toString(16).padStart(2, "0");
        const [device] = await this.platform.plug(edu({ bdf: `0000:${bus}:00.0` }));
        this.#devices.push(device);
      }
    }, "plug");
    this.total.commands = before.total;
    this.#counts.commands = before.phase;
  }

  async #apply({ event, space }: PlacedEvent): Promise<void> {
    const domain = this.#devices[space].group?.domain;
    if (domain === undefined) throw new Error(`device ${space} has no domain`);
    const { kind, iova, size, paddr } = event;
    if (kind === "map") {
      await iommuMap(domain, iova, paddr, size, IommuProt.READ | IommuProt.WRITE);
      for (const counts of [this.total, this.#counts]) {
        counts.maps++;
        counts.bytesMapped += size;
      }
      return;
    }
    const gather = newGather(this.lazy);
    iommuUnmapFast(domain, iova, size, gather);
    const queue = this.lazy ? this.#queueOf(domain) : undefined;
    if (queue === undefined) await domain.ops.iotlbSync(domain, gather);
    else await queue.queue(() => {});
    this.total.unmaps++;
    this.#counts.unmaps++;
  }

  readonly #queues = new Map<IommuDomain, FlushQueue>();

  /** The DMA API's flush queue of a lazy domain; undefined where the driver keeps one itself, behind iotlbSync. */
  #queueOf(domain: IommuDomain): FlushQueue | undefined {
    if ("flushQueue" in domain) return undefined;
    const known = this.#queues.get(domain);
    if (known !== undefined) return known;
    const queue = new FlushQueue(this.platform.scheduler, () => domain.ops.flushIotlbAll(domain));
    this.#queues.set(domain, queue);
    return queue;
  }

  /** An unmap whose mapping is from before the trace. */
  skip(): void {
    this.total.unmaps++;
    this.#counts.unmaps++;
    this.total.skipped++;
    this.#counts.skipped++;
  }

  async #follow(time: number): Promise<void> {
    this.#clock ??= time;
    if (time - this.#clock < CLOCK_STEP) return;
    await this.platform.scheduler.sleep(time - this.#clock);
    this.#clock = time;
  }

  #sample(): void {
    let bytes = 0;
    for (const [owner, pages] of this.platform.pages.usage()) if (owner.includes("page table")) bytes += pages * 4096;
    for (const counts of [this.total, this.#counts]) counts.tableBytes = Math.max(counts.tableBytes, bytes);
  }

  async close(): Promise<void> {
    this.#sample();
    this.#stop();
  }
}
