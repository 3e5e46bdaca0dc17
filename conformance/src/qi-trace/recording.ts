/**
 * What a kernel did, and which invalidation descriptors it queued for it, read from a trace. A descriptor belongs to what the
 * same CPU did last and what it fits: `cache_tag_*` lines say it outright (6.11 and later), else the address does.
 */
import type { FtraceEvent } from "./ftrace.js";

/** First and second quad-word, as qi_submit prints them. */
export type QiDescriptor = readonly [bigint, bigint];

interface Done {
  readonly line: number;
  readonly cpu: number;
  /** What Linux queued for it. */
  readonly expected: QiDescriptor[];
}

export interface Boot extends Done {
  readonly kind: "boot";
}
export interface Attach extends Done {
  readonly kind: "attach";
  device: string;
  did: number | undefined;
}
export interface Detach extends Done {
  readonly kind: "detach";
  readonly device: string;
  readonly did: number;
}
export interface MapCall extends Done {
  readonly kind: "map";
  readonly iova: bigint;
  readonly size: bigint;
  readonly pa: number;
  /** Pointer of the domain, from the kprobe; absent in most traces. */
  readonly domain: string | undefined;
  did: number | undefined;
}
export interface UnmapCall extends Done {
  readonly kind: "unmap";
  readonly iova: bigint;
  readonly size: bigint;
  readonly domain: string | undefined;
  did: number | undefined;
}
/** The whole domain at once: a flush queue was full, or its timer ran. */
export interface FlushAll extends Done {
  readonly kind: "flush";
  readonly did: number;
}
export type Step = Boot | Attach | Detach | MapCall | UnmapCall | FlushAll;

export interface Recording {
  readonly steps: readonly Step[];
  /** Unmaps wait for a common invalidation. */
  readonly lazy: boolean;
  /** The unit caches absent entries: maps are invalidated as well. */
  readonly cachingMode: boolean;
  readonly cpus: number;
  /** Unmaps carry the hint that only leaf entries changed. Kernels without cache tag events drop it on the way to the queue. */
  readonly hints: boolean;
  /** Descriptors that the comparison leaves out, by what they are. */
  readonly leftOut: ReadonlyMap<string, number>;
  /** Descriptors that fit nothing that the CPU had done. */
  readonly orphans: readonly { readonly line: number; readonly descriptor: QiDescriptor }[];
  /** Lines of known events whose text is not of the known form. */
  readonly unreadable: readonly { readonly line: number; readonly text: string }[];
}

/** A step that a descriptor may belong to. */
interface Waiting {
  readonly step: Step;
  readonly did: number;
  /** Range that the descriptor must cover; absent for a whole domain. */
  readonly range?: { readonly start: bigint; readonly end: bigint };
}

/** What one CPU has begun. */
class Cpu {
  unmaps: UnmapCall[] = [];
  maps: MapCall[] = [];
  waiting: Waiting[] = [];
  attaching: Attach | undefined;
  detaching: Detach | undefined;
  /** Device that is being taken out of its group. */
  removed = "";
  domain: string | undefined;
}

const PAGE_GRANULARITY = 3n;
/** The range by which kernels without cache_tag_flush_all (7.3) mean the whole domain. */
const EVERYTHING = "[0x0-0xffffffffffffffff]";

export class Recorder {
  readonly #steps: Step[] = [];
  readonly #cpus = new Map<number, Cpu>();
  readonly #orphans: { line: number; descriptor: QiDescriptor }[] = [];
  readonly #unreadable: { line: number; text: string }[] = [];
  readonly #leftOut = new Map<string, number>();
  #boot: Boot | undefined;
  #cachingMode = false;
  /** The kernel says with cache_tag events what a descriptor is for. */
  readonly #tagged: boolean;
  readonly #lazy: boolean;

  private constructor(events: readonly FtraceEvent[]) {
    const count = (name: string, text = "") => events.filter((e) => e.name === name && e.text.includes(text)).length;
    this.#tagged = events.some(({ name }) => name.startsWith("cache_tag_"));
    // Strict kernels queue at least one descriptor for each unmap.
    this.#lazy = this.#tagged
      ? count("cache_tag_flush_all") + count("cache_tag_flush_range", EVERYTHING) > 0
      : count("qi_submit", "iotlb_inv ") * 2 < count("unmap");
  }

  static read(events: readonly FtraceEvent[]): Recording {
    const recorder = new Recorder(events);
    for (const event of events) recorder.#read(event);
    return recorder.#finish();
  }

  #finish(): Recording {
    return {
      steps: this.#steps,
      lazy: this.#lazy,
      cachingMode: this.#cachingMode,
      hints: this.#tagged,
      cpus: Math.max(0, ...this.#cpus.keys()) + 1,
      leftOut: this.#leftOut,
      orphans: this.#orphans,
      unreadable: this.#unreadable,
    };
  }

  #read(event: FtraceEvent): void {
    try {
      this.#event(event);
    } catch (error) {
      // What BigInt says of text that is no number.
      if (!(error instanceof SyntaxError)) throw error;
      this.#unreadable.push({ line: event.line, text: `${event.name}: ${event.text}` });
    }
  }

  #event(event: FtraceEvent): void {
    const cpu = this.#cpus.get(event.cpu) ?? new Cpu();
    this.#cpus.set(event.cpu, cpu);
    const done = () => ({ line: event.line, cpu: event.cpu, expected: [] });
    const number = (pattern: RegExp) => BigInt(pattern.exec(event.text)?.[1] ?? 0);
    switch (event.name) {
      case "iommu_map":
      case "iommu_unmap":
        cpu.domain = /domain=(\S+)/.exec(event.text)?.[1];
        break;
      case "map":
      case "unmap": {
        const iova = number(/iova=(0x\w+)/);
        const { domain } = cpu;
        cpu.domain = undefined;
        if (event.name === "map") {
          const pa = Number(number(/paddr=(0x\w+)/));
          const size = number(/ size=(\d+)/);
          const step: MapCall = { kind: "map", ...done(), iova, size, pa, domain, did: undefined };
          this.#steps.push(step);
          cpu.maps = [...cpu.maps.slice(-8), step];
        } else {
          const size = number(/unmapped_size=(\d+)/);
          const step: UnmapCall = { kind: "unmap", ...done(), iova, size, domain, did: undefined };
          this.#steps.push(step);
          cpu.unmaps = [...cpu.unmaps.slice(-64), step];
        }
        break;
      }
      case "cache_tag_assign":
        cpu.attaching = { kind: "attach", ...done(), device: "", did: Number(number(/ did (\d+)/)) };
        break;
      case "attach_device_to_domain":
        this.#attached(cpu, /device=(\S+)/.exec(event.text)?.[1] ?? "", done());
        break;
      case "remove_device_from_group":
        cpu.removed = /device=(\S+)/.exec(event.text)?.[1] ?? "";
        break;
      case "cache_tag_unassign":
        cpu.detaching = { kind: "detach", ...done(), device: cpu.removed, did: Number(number(/ did (\d+)/)) };
        this.#steps.push(cpu.detaching);
        break;
      case "cache_tag_flush_range":
      case "cache_tag_flush_range_np":
        if (event.text.includes(EVERYTHING)) this.#flushAll(cpu, Number(number(/ did (\d+)/)), done());
        else this.#flushRange(cpu, event);
        break;
      case "cache_tag_flush_all":
        this.#flushAll(cpu, Number(number(/ did (\d+)/)), done());
        break;
      case "qi_submit":
        this.#descriptor(cpu, event);
        break;
    }
  }

  #attached(cpu: Cpu, device: string, done: Done): void {
    const step: Attach = cpu.attaching ?? { kind: "attach", ...done, device, did: undefined };
    step.device = device;
    cpu.attaching = undefined;
    this.#steps.push(step);
  }

  #flushRange(cpu: Cpu, { name, text }: FtraceEvent): void {
    const match = / did (\d+) \[(0x\w+)-(0x\w+)\]/.exec(text);
    if (!match) return;
    const did = Number(match[1]);
    const range = { start: BigInt(match[2]), end: BigInt(match[3]) };
    const inside = ({ iova, size }: MapCall | UnmapCall) => iova >= range.start && iova + size - 1n <= range.end;
    const own = (name === "cache_tag_flush_range" ? cpu.unmaps : cpu.maps).filter(inside);
    for (const step of own) step.did = did;
    const last = own.at(-1);
    if (!last) return;
    cpu.unmaps = cpu.unmaps.filter((step) => !own.includes(step));
    cpu.maps = cpu.maps.filter((step) => !own.includes(step));
    cpu.waiting.push({ step: last, did, range });
  }

  #flushAll(cpu: Cpu, did: number, done: Done): void {
    const step: FlushAll = { kind: "flush", ...done, did };
    this.#steps.push(step);
    cpu.waiting.push({ step, did });
  }

  #descriptor(cpu: Cpu, { line, text }: FtraceEvent): void {
    const match = /^(\w+) \S+: (0x\w+) (0x\w+)/.exec(text);
    if (!match) throw new SyntaxError(`no descriptor: ${text}`);
    const descriptor: QiDescriptor = [BigInt(match[2]), BigInt(match[3])];
    const [, kind] = match;
    if (kind !== "cc_inv" && kind !== "iotlb_inv") {
      const what = kind === "iec_inv" ? "invalidation of interrupt remapping entries" : `${kind}: not of legacy mode`;
      this.#leftOut.set(what, (this.#leftOut.get(what) ?? 0) + 1);
      return;
    }
    const owner =
      kind === "cc_inv" ? this.#ownerOfContext(cpu, descriptor, line) : this.#ownerOfIotlb(cpu, descriptor, line);
    if (owner) owner.expected.push(descriptor);
    else this.#orphans.push({ line, descriptor });
  }

  /** A context cache invalidation: of everything at boot, else of a device that comes (caching mode) or goes. */
  #ownerOfContext(cpu: Cpu, [qw0]: QiDescriptor, line: number): Step | undefined {
    const granularity = (qw0 >> 4n) & 3n;
    if (granularity === 1n) {
      this.#boot = { kind: "boot", line, cpu: 0, expected: [] };
      this.#steps.push(this.#boot);
      return this.#boot;
    }
    if (!this.#tagged) this.#untaggedContext(cpu, qw0, line);
    if (cpu.attaching) this.#cachingMode = true;
    return cpu.attaching ?? cpu.detaching;
  }

  /** Kernels without cache tag events: domain-id 0 says that the device comes; otherwise it leaves that domain. */
  #untaggedContext(cpu: Cpu, qw0: bigint, line: number): void {
    const did = Number((qw0 >> 16n) & 0xffffn);
    const device = bdfOf(Number((qw0 >> 32n) & 0xffffn));
    if (did === 0) {
      cpu.attaching = { kind: "attach", line, cpu: 0, expected: [], device, did: undefined };
      return;
    }
    cpu.detaching = { kind: "detach", line, cpu: 0, expected: [], device, did };
    this.#steps.push(cpu.detaching);
  }

  #ownerOfIotlb(cpu: Cpu, [qw0, qw1]: QiDescriptor, line: number): Step | undefined {
    const granularity = (qw0 >> 4n) & 3n;
    const did = Number((qw0 >> 16n) & 0xffffn);
    if (granularity === 1n) return this.#boot;
    const start = (qw1 >> 12n) << 12n;
    const end = start + (0x1000n << (qw1 & 0x3fn)) - 1n;
    const covers = (range: Waiting["range"]) =>
      granularity !== PAGE_GRANULARITY || (range !== undefined && range.start >= start && range.end <= end);
    const at = cpu.waiting.findLastIndex((waiting) => waiting.did === did && covers(waiting.range));
    if (at >= 0) {
      const [{ step }] = cpu.waiting.splice(at, 1);
      if (step.kind === "map") this.#cachingMode = true;
      return step;
    }
    const { attaching, detaching } = cpu;
    if (attaching) {
      attaching.did ??= did;
      return attaching;
    }
    if (detaching?.did === did) {
      cpu.detaching = undefined;
      return detaching;
    }
    if (this.#tagged) return undefined;
    if (granularity === PAGE_GRANULARITY || !this.#lazy) return this.#ownerByAddress(cpu, did, covers);
    const flush: FlushAll = { kind: "flush", line, cpu: 0, expected: [], did };
    this.#steps.push(flush);
    return flush;
  }

  /** Kernels without cache tag events: the last call of this CPU that the descriptor covers. A map's has no hint (H25). */
  #ownerByAddress(cpu: Cpu, did: number, covers: (range: Waiting["range"]) => boolean): Step | undefined {
    const inside = ({ iova, size }: MapCall | UnmapCall) => covers({ start: iova, end: iova + size - 1n });
    const map = cpu.maps.findLast(inside);
    const unmap = cpu.unmaps.findLast(inside);
    const step = !map || (unmap && unmap.line > map.line) ? unmap : map;
    if (!step) return undefined;
    cpu.maps = cpu.maps.filter((other) => other !== step);
    cpu.unmaps = cpu.unmaps.filter((other) => other !== step);
    if (step.kind === "map") this.#cachingMode = true;
    step.did = did;
    return step;
  }
}

/** "0000:00:08.0" of a source-id. */
function bdfOf(sid: number): string {
  const byte = (value: number) => value.toString(16).padStart(2, "0");
  return `0000:${byte(sid >>> 8)}:${byte((sid >>> 3) & 0x1f)}.${sid & 7}`;
}
