/** Reads from a trace what the kernel did, and gives each descriptor that it queued to what it was queued for. */
import { deviceOf, didOf, isGlobal } from "./descriptor.js";
import { Edges } from "./edges.js";
import { type FtraceEvent, LOST } from "./ftrace.js";
import { EVERYTHING, isLazyUntagged, isTagged, waitsForCommon } from "./manner.js";
import { announcedOwner, latestOwner } from "./owner.js";
import type { Attach, Boot, Detach, FlushAll, MapStep, QiDescriptor, Recording, Step, UnmapStep } from "./steps.js";
import { goesOn, join, runsOf, Thread, takeEnd, within } from "./thread.js";

const IN_PART = "call that the file shows only in part";
const NO_DEVICE = "unmap right after a device has left: its domain may have none";
/** 4 TiB: what claims to be longer is no mapping. */
const LONGEST = 2n ** 42n;

export class Recorder {
  readonly #steps: Step[] = [];
  readonly #threads = new Map<string, Thread>();
  readonly #edges = new Edges();
  /** CPUs by number, in order of appearance. */
  readonly #cpus = new Map<number, number>();
  readonly #orphans: { line: number; descriptor: QiDescriptor }[] = [];
  readonly #unreadable: { line: number; text: string }[] = [];
  readonly #leftOut = new Map<string, number>();
  #boot: Boot | undefined;
  #cachingMode = false;
  /** Maps and scatter lists that something was queued for. */
  #answered = 0;
  /** Unmaps, and those that an invalidation of their own was announced for. */
  #unmaps = 0;
  #own = 0;
  readonly #tagged: boolean;
  #lazy: boolean;

  private constructor(events: readonly FtraceEvent[]) {
    this.#tagged = isTagged(events);
    this.#lazy = !this.#tagged && isLazyUntagged(events);
  }

  static read(events: readonly FtraceEvent[]): Recording {
    const recorder = new Recorder(events);
    for (const event of events) recorder.#read(event);
    return recorder.#finish();
  }

  #finish(): Recording {
    for (const thread of this.#threads.values()) this.#end(thread);
    const unanswered = [...this.#threads.values()].flatMap(({ maps }) => runsOf(maps));
    const whole = unanswered.filter((run) => run.at(-1)?.doubt === undefined);
    const cachingMode = this.#cachingMode || this.#answered > whole.length;
    // What nothing was queued for is a scatter list nevertheless.
    if (cachingMode) for (const run of unanswered) join(run);
    return {
      steps: this.#steps.filter((step) => !("parts" in step) || step.parts.length > 0),
      lazy: this.#lazy || (this.#tagged && waitsForCommon(this.#unmaps, this.#own)),
      cachingMode,
      hints: this.#tagged,
      cpus: Math.max(1, this.#cpus.size),
      leftOut: this.#leftOut,
      orphans: this.#orphans,
      unreadable: this.#unreadable,
    };
  }

  /** The thread's events end here, perhaps in the middle of something. */
  #end(thread: Thread): void {
    const { current, at } = thread;
    if (current && at && !this.#edges.othersSince(at, at.line)) current.doubt = IN_PART;
    thread.current = undefined;
    thread.settled = false;
  }

  #read(event: FtraceEvent): void {
    if (event.name === LOST) {
      for (const thread of this.#threads.values()) if (thread.at?.cpu === event.cpu) this.#end(thread);
      this.#edges.lost(event.cpu);
      return;
    }
    const thread = this.#threads.get(event.thread) ?? new Thread();
    this.#threads.set(event.thread, thread);
    thread.at = event;
    try {
      this.#event(event, thread);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      this.#unreadable.push({ line: event.line, text: `${event.name}: ${event.text}` });
    }
    this.#edges.see(event);
  }

  #event(event: FtraceEvent, thread: Thread): void {
    switch (event.name) {
      case "iommu_map":
      case "iommu_unmap":
      case "iommu_attach":
        thread.domain = /domain=(\S+)/.exec(event.text)?.[1];
        return;
      case "map":
        this.#map(event, thread);
        return;
      case "unmap":
        this.#unmap(event, thread);
        return;
      case "attach_device_to_domain":
        this.#attached(event, thread);
        return;
      case "remove_device_from_group":
        thread.settle();
        thread.removed = deviceIn(event);
        return;
      case "qi_submit":
        this.#descriptor(event, thread);
        return;
      default:
        if (!event.name.startsWith("cache_tag_")) thread.settle();
        // Device-TLBs and nested domains have tags of their own.
        else if (event.text.includes(" type iotlb ")) this.#cacheTag(event, thread);
    }
  }

  #cacheTag(event: FtraceEvent, thread: Thread): void {
    const did = Number(field(event, / did (\d+)/));
    switch (event.name) {
      case "cache_tag_assign":
        this.#attaching(event, thread, "").did = did;
        return;
      case "cache_tag_unassign":
        this.#detaching(event, thread, thread.removed, did);
        thread.removed = "";
        return;
      case "cache_tag_flush_range_np":
        this.#cachingMode = true;
        this.#flushRange(event, thread, thread.maps, did);
        return;
      case "cache_tag_flush_range":
        if (event.text.includes(EVERYTHING)) this.#flushAll(event, thread, did);
        else this.#flushRange(event, thread, thread.unmaps, did);
        return;
      case "cache_tag_flush_all":
        this.#flushAll(event, thread, did);
    }
  }

  #map(event: FtraceEvent, thread: Thread): void {
    const pa = Number(field(event, /paddr=(0x[0-9a-f]+)/));
    const parts = [{ ...rangeIn(event), pa }];
    const domain = this.#inDomain(thread);
    const { current } = thread;
    if (current && !(current.kind === "map" && goesOn(current, { parts, ...domain }))) thread.settle();
    const step: MapStep = { kind: "map", ...this.#begun(event, thread), parts, ...domain };
    thread.maps.push(step);
    this.#begin(thread, step);
  }

  #unmap(event: FtraceEvent, thread: Thread): void {
    const { iova } = rangeIn(event);
    const size = field(event, /unmapped_size=(\d+)/);
    thread.settle();
    const step: UnmapStep = {
      kind: "unmap",
      ...this.#begun(event, thread),
      parts: [{ iova, size }],
      own: false,
      ...this.#inDomain(thread),
    };
    if (thread.hasDetached) step.doubt ??= NO_DEVICE;
    thread.unmaps.push(step);
    this.#unmaps++;
    this.#begin(thread, step);
  }

  /** A new call: a device that was coming or going has come or gone. */
  #begin(thread: Thread, step: MapStep | UnmapStep): void {
    thread.attaching = undefined;
    thread.detaching = undefined;
    thread.current = step;
    this.#steps.push(step);
  }

  #begun(event: FtraceEvent, thread: Thread) {
    const cpu = this.#cpus.get(event.cpu) ?? this.#cpus.size;
    this.#cpus.set(event.cpu, cpu);
    const doubt = this.#mayHaveBegunBefore(event, thread) ? IN_PART : undefined;
    return { line: event.line, cpu, expected: [], doubt };
  }

  /** The pointer that a kprobe has left, and no domain-id yet. */
  #inDomain(thread: Thread) {
    const { domain } = thread;
    thread.domain = undefined;
    return { domain, did: undefined };
  }

  /** The thread may be in the middle of something that it began before the file does. */
  #mayHaveBegunBefore(event: FtraceEvent, thread: Thread): boolean {
    return !thread.settled && !this.#edges.othersSince(event, 0);
  }

  #attaching(event: FtraceEvent, thread: Thread, device: string): Attach {
    if (thread.attaching) return thread.attaching;
    const step: Attach = { kind: "attach", ...this.#begun(event, thread), device, ...this.#inDomain(thread) };
    this.#steps.push(step);
    thread.attaching = step;
    thread.current = step;
    return step;
  }

  #attached(event: FtraceEvent, thread: Thread): void {
    this.#attaching(event, thread, "").device = deviceIn(event);
    thread.current = thread.attaching;
    thread.attaching = undefined;
    thread.settled = true;
  }

  #detaching(event: FtraceEvent, thread: Thread, device: string, did: number): Detach {
    const { detaching } = thread;
    if (detaching?.did === did) {
      detaching.device ||= device;
      return detaching;
    }
    const step: Detach = { kind: "detach", ...this.#begun(event, thread), device, did };
    this.#steps.push(step);
    thread.detaching = step;
    thread.current = step;
    return step;
  }

  #flushRange(event: FtraceEvent, thread: Thread, pending: (MapStep | UnmapStep)[], did: number): void {
    const match = / \[(0x[0-9a-f]+)-(0x[0-9a-f]+)\]/.exec(event.text);
    if (!match) throw new SyntaxError(`no range: ${event.text}`);
    const range = { start: BigInt(match[1]), end: BigInt(match[2]) };
    const step = takeEnd(pending, (call) => within(call, range));
    if (!step) return;
    if (step.kind === "unmap") {
      step.own = true;
      this.#own += step.parts.length;
    }
    step.did = did;
    thread.waiting.push({ step, did, range });
    thread.current = step;
  }

  #flushAll(event: FtraceEvent, thread: Thread, did: number): FlushAll {
    const step: FlushAll = { kind: "flush", ...this.#begun(event, thread), did };
    this.#steps.push(step);
    if (this.#tagged) {
      thread.waiting.push({ step, did });
      this.#lazy = true;
    }
    thread.current = step;
    return step;
  }

  #descriptor(event: FtraceEvent, thread: Thread): void {
    const match = /^(\w+) \S+: (0x[0-9a-f]+) (0x[0-9a-f]+) /.exec(event.text);
    if (!match) throw new SyntaxError(`no descriptor: ${event.text}`);
    const [, kind] = match;
    const descriptor: QiDescriptor = [BigInt(match[2]), BigInt(match[3])];
    if (kind !== "cc_inv" && kind !== "iotlb_inv") {
      thread.settle();
      this.#leaveOut(kind === "iec_inv" ? "invalidation of interrupt remapping entries" : `${kind}: not compared`);
      return;
    }
    const owner =
      kind === "cc_inv" ? this.#contextOwner(event, thread, descriptor) : this.#iotlbOwner(event, thread, descriptor);
    if (owner) this.#give(thread, owner, descriptor);
    else if (this.#mayHaveBegunBefore(event, thread))
      this.#leaveOut("descriptor of a call from before the file begins");
    else this.#orphans.push({ line: event.line, descriptor });
  }

  #leaveOut(what: string): void {
    this.#leftOut.set(what, (this.#leftOut.get(what) ?? 0) + 1);
  }

  #give(thread: Thread, owner: Step, descriptor: QiDescriptor): void {
    if (owner.kind === "map" && owner.expected.length === 0) this.#answered++;
    owner.expected.push(descriptor);
    thread.settled = true;
    thread.hasDetached = owner.kind === "detach";
    // Only devices that come and go have more queued for them than one.
    thread.current = owner.kind === "attach" || owner.kind === "detach" ? owner : undefined;
  }

  /** A context cache invalidation: of everything at boot, else of a device that comes (domain-id 0, caching mode) or goes. */
  #contextOwner(event: FtraceEvent, thread: Thread, descriptor: QiDescriptor): Step {
    if (isGlobal(descriptor)) {
      this.#boot = { kind: "boot", ...this.#begun(event, thread) };
      this.#steps.push(this.#boot);
      return this.#boot;
    }
    const did = didOf(descriptor);
    const device = deviceOf(descriptor);
    if (did !== 0) return this.#detaching(event, thread, device, did);
    this.#cachingMode = true;
    return this.#attaching(event, thread, device);
  }

  #iotlbOwner(event: FtraceEvent, thread: Thread, descriptor: QiDescriptor): Step | undefined {
    if (isGlobal(descriptor)) return this.#boot;
    if (this.#tagged) return announcedOwner(thread, descriptor);
    const owner = latestOwner(thread, descriptor, this.#lazy);
    if (owner !== "flush") return owner;
    const did = didOf(descriptor);
    if (thread.current?.kind === "attach") thread.current.did ??= did;
    return this.#flushAll(event, thread, did);
  }
}

/** @throws SyntaxError the text does not have it */
function field({ text }: FtraceEvent, pattern: RegExp): bigint {
  const value = pattern.exec(text)?.[1];
  if (value === undefined) throw new SyntaxError(`no ${pattern.source}: ${text}`);
  return BigInt(value);
}

/** @throws SyntaxError not a range of whole pages, or contradicts itself */
function rangeIn(event: FtraceEvent) {
  const iova = field(event, /iova=(0x[0-9a-f]+)/);
  const end = field(event, / - (0x[0-9a-f]+)/);
  const size = field(event, / size=(\d+)/);
  if (size > LONGEST || ((iova | size) & 0xfffn) !== 0n || iova + size !== end)
    throw new SyntaxError(`no pages: ${event.text}`);
  return { iova, size };
}

function deviceIn({ text }: FtraceEvent): string {
  return /device=(\S+)/.exec(text)?.[1] ?? "";
}
