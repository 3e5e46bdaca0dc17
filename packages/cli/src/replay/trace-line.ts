/**
 * Lines of an ftrace text (or of `trace-cmd report`): iommu:map and iommu:unmap; the kprobes on iommu_map, iommu_unmap and
 * iommu_attach that say which domain they are for; iommu:attach_device_to_domain and dma:* events, which name devices; and
 * "PHASE name" marks. Everything else is passed over.
 */

export interface TraceEvent {
  readonly kind: "map" | "unmap";
  readonly cpu: string;
  readonly iova: bigint;
  /** First 4 KiB page, and how many. */
  readonly page: number;
  readonly pages: number;
  /** 0 for an unmap. */
  readonly paddr: number;
  /** Bytes. */
  readonly size: number;
  /** Nanoseconds since boot. */
  readonly time: number;
  /** The domain's pointer when a kprobe told it. */
  readonly domain: string | undefined;
}

export type TraceItem =
  | TraceEvent
  | { readonly kind: "phase"; readonly name: string; readonly time: number }
  /** A device is on a domain now; which one is known only behind the kprobe. */
  | { readonly kind: "attach"; readonly device: string; readonly domain: string | undefined }
  /** A device was given an address by the DMA API, on the CPU that mapped it just before. */
  | { readonly kind: "dma"; readonly device: string; readonly cpu: string; readonly page: number };

/** From "map:" on. */
const EVENT =
  /map:\s+IOMMU:\s+iova=0x([0-9a-f]{1,16}) - 0x([0-9a-f]{1,16}) (?:paddr=0x([0-9a-f]{1,16}) )?size=(\d+)(?: unmapped_size=(\d+))?\s*$/y;
/** From "map:" on: the kprobes on iommu_map and iommu_unmap. */
const PROBE = /map:\s+\(\S+\) domain=(0x[0-9a-f]+) iova=0x([0-9a-f]+)/y;
const ATTACH_PROBE = /\[(\d{3,})\].*\biommu_attach: \(.*\) domain=(0x[0-9a-f]+)/;
const ATTACH = /\[(\d{3,})\].*\battach_device_to_domain:\s+IOMMU:\s+device=(\S+)/;
/** From ": dma_" on. */
const DMA = /: dma_(?:map_page|map_sg|alloc): (\S+) .*?dma_addrs?=\{?(?:0x)?([0-9a-f]+)/y;
const PHASE = /\s(\d+\.\d{6}): .*?tracing_mark_write: PHASE (\S.*?)\s*$/;

/** 1 TiB, in pages: what claims to be longer is no mapping. */
const LONGEST = 2 ** 28;
/** Pages of 64 bits of address. */
const ALL_PAGES = 2 ** 52;

export class TraceReader {
  /** Lines of iommu:map or iommu:unmap that are cut, garbled or contradict themselves. */
  malformed = 0;
  /** The kprobe that came last, by CPU. */
  readonly #probes = new Map<string, { readonly domain: string; readonly page: number }>();
  readonly #attached = new Map<string, string>();

  /** Undefined for a line that is none of them. */
  read(text: string): TraceItem | undefined {
    return this.#event(text) ?? (text.includes("PHASE ") ? phase(text) : undefined);
  }

  #event(text: string): TraceItem | undefined {
    const at = text.indexOf("map: ");
    if (at >= 0) return this.#mapping(text, at);
    const dmaAt = text.indexOf(": dma_");
    if (dmaAt >= 0) return dma(text, dmaAt);
    return text.includes("attach") ? this.#attach(text) : undefined;
  }

  #mapping(text: string, at: number): TraceEvent | undefined {
    if (text.includes("IOMMU:", at)) {
      EVENT.lastIndex = at;
      const event = EVENT.exec(text);
      const unmap = text.startsWith("un", at - 2);
      const head = event && headOf(text, unmap ? at - 2 : at);
      const item = head ? this.#mapped(unmap, head, event) : undefined;
      if (item === undefined) this.malformed++;
      return item;
    }
    PROBE.lastIndex = at;
    const probe = PROBE.exec(text);
    const cpu = probe && cpuOf(text, at);
    if (cpu) this.#probes.set(cpu, { domain: probe[1], page: pageOf(probe[2]) });
    return undefined;
  }

  /** Undefined when the end of the range is not where its size says. */
  #mapped(
    unmap: boolean,
    { cpu, time }: Head,
    [, iova, end, paddr, size, unmapped]: RegExpExecArray,
  ): TraceEvent | undefined {
    const page = pageOf(iova);
    const span = Math.ceil(Number(size) / 4096);
    const bytes = Number(unmapped ?? size);
    if (Math.max(span, bytes / 4096) > LONGEST || (page + span) % ALL_PAGES !== pageOf(end)) return undefined;
    const probe = this.#probes.get(cpu);
    if (probe !== undefined) this.#probes.delete(cpu);
    return {
      kind: unmap ? "unmap" : "map",
      cpu,
      iova: exact(iova),
      page,
      pages: Math.ceil(bytes / 4096),
      paddr: paddr === undefined ? 0 : Number.parseInt(paddr, 16),
      size: bytes,
      time,
      domain: probe?.page === page ? probe.domain : undefined,
    };
  }

  #attach(text: string): TraceItem | undefined {
    const probe = ATTACH_PROBE.exec(text);
    if (probe !== null) {
      this.#attached.set(probe[1], probe[2]);
      return undefined;
    }
    const event = ATTACH.exec(text);
    if (event === null) return undefined;
    const [, cpu, device] = event;
    const domain = this.#attached.get(cpu);
    this.#attached.delete(cpu);
    return { kind: "attach", device, domain };
  }
}

interface Head {
  readonly cpu: string;
  readonly time: number;
}

/** What stands before an event's name: "TASK-PID [000] flags 1.000001: ". Undefined when it does not. */
function headOf(text: string, name: number): Head | undefined {
  let end = name;
  while (text.charCodeAt(end - 1) === 32) end--;
  const cpu = cpuOf(text, end);
  if (cpu === undefined || text[end - 1] !== ":") return undefined;
  const time = nanoseconds(text.slice(text.lastIndexOf(" ", end - 1) + 1, end - 1));
  return time > 0 ? { cpu, time } : undefined;
}

/** What stands in the last brackets before a place of the line. */
function cpuOf(text: string, before: number): string | undefined {
  const open = text.lastIndexOf("[", before);
  const close = text.indexOf("]", open);
  return open < 0 || close < 0 || close > before ? undefined : text.slice(open + 1, close);
}

function dma(text: string, at: number): TraceItem | undefined {
  DMA.lastIndex = at;
  const event = DMA.exec(text);
  const cpu = event && cpuOf(text, at);
  return cpu ? { kind: "dma", cpu, device: event[1], page: pageOf(event[2]) } : undefined;
}

function phase(text: string): TraceItem | undefined {
  const mark = PHASE.exec(text);
  return mark === null ? undefined : { kind: "phase", name: mark[2], time: nanoseconds(mark[1]) };
}

/** Page of a hexadecimal address: exact for any 64 bits. */
function pageOf(hex: string): number {
  return hex.length <= 3 ? 0 : Number.parseInt(hex.slice(0, -3), 16);
}

/** A bigint by way of a number where that is exact: several times as fast. */
function exact(hex: string): bigint {
  const value = Number.parseInt(hex, 16);
  return Number.isSafeInteger(value) ? BigInt(value) : BigInt(`0x${hex}`);
}

/** Of seconds with six digits behind the point. */
function nanoseconds(seconds: string): number {
  return Math.round(Number(seconds) * 1e9);
}
