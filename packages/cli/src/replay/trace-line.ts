/**
 * Lines of an ftrace text (or of `trace-cmd report`, `perf script`): iommu:map and iommu:unmap; the kprobes on iommu_map, iommu_unmap and
 * iommu_attach that say which domain they are for; iommu:attach_device_to_domain and dma:* events, which name devices; and
 * "PHASE name" marks. Everything else is passed over.
 */
import { join64, PAGE_SIZE, physical, toBigint } from "@iommukit/core";
import { isBlank, isDigit, LineCursor } from "./line-cursor.js";

export interface TraceEvent {
  readonly kind: "map" | "unmap";
  readonly cpu: number;
  readonly iova: bigint;
  /** First 4 KiB page, and how many. */
  readonly page: number;
  readonly pages: number;
  /** 0 for an unmap. */
  readonly paddr: number;
  /** Bytes, and the same as drivers take it. */
  readonly size: number;
  readonly bytes: bigint;
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
  | { readonly kind: "dma"; readonly device: string; readonly cpu: number; readonly page: number };

/** Behind the event's name. */
const ATTACH_PROBE = /^ +\(.*\) domain=(0x[0-9a-f]+)/;
const ATTACH = /^ +IOMMU:\s+device=(\S+)/;
const PHASE = /tracing_mark_write: PHASE (\S.*?)\s*$/;

/** 1 TiB, in pages: what claims to be longer is no mapping. */
const LONGEST = 2 ** 28;
/** Pages of 64 bits of address. */
const ALL_PAGES = 2 ** 52;
/** Nanoseconds of the last of so many digits behind the point of a second. */
const NANOSECONDS = [1e9, 1e8, 1e7, 1e6, 1e5, 1e4, 1e3, 1e2, 10, 1];

const NEWLINE = 10;
const SPACE = 32;
const COLON = 58;
const [OPEN, CLOSE] = Buffer.from("[]");
const [A, B, D, I, M, P, T, U] = Buffer.from("abdimptu");

export class TraceReader {
  /** Lines of iommu:map or iommu:unmap that are cut, garbled or contradict themselves. */
  malformed = 0;
  readonly #cursor = new LineCursor();
  /** The kprobe that came last, by CPU. */
  readonly #probes = new Map<number, { readonly domain: string; readonly page: number }>();
  readonly #attached = new Map<number, string>();
  /** Of the line: its CPU, and nanoseconds since boot. */
  #cpu = 0;
  #time = 0;
  /** What the last such line named. */
  #domain = "";
  #device = "";

  /** @param bytes whole lines @param take gets what they say, in order */
  read(bytes: Buffer, take: (item: TraceItem) => void): void {
    const cursor = this.#cursor;
    let cpu = -1;
    for (let from = 0; from < bytes.length; from = cursor.end + 1) {
      const newline = bytes.indexOf(NEWLINE, from);
      cursor.set(bytes, from, newline < 0 ? bytes.length : newline);
      if (cpu < from) cpu = indexOf(bytes, CLOSE, from);
      const colon = cpu < cursor.end ? endOfHead(cursor, cpu) : cursor.end;
      if (colon < cursor.end) {
        cursor.at = colon + 2;
        // perf script pads the event's name and begins it with its system's.
        if (cursor.next === SPACE) cursor.blanks();
        cursor.take("iommu:");
        const item = this.#event(cursor, colon);
        if (item !== undefined) take(item);
      } else if (tellsOfMapping(cursor.rest)) this.malformed++;
    }
  }

  /** From the event's name on. Most lines are passed over for its first letter. */
  #event(cursor: LineCursor, colon: number): TraceItem | undefined {
    switch (cursor.next) {
      case M:
        return cursor.take("map:") ? this.#mapping(cursor, "map", colon) : undefined;
      case U:
        return cursor.take("unmap:") ? this.#mapping(cursor, "unmap", colon) : undefined;
      case D:
        return cursor.take("dma_map_page:") || cursor.take("dma_map_sg:") || cursor.take("dma_alloc:")
          ? this.#dma(cursor, colon)
          : undefined;
      case I:
        if (cursor.take("iommu_map:") || cursor.take("iommu_unmap:")) return this.#probe(cursor, colon);
        return cursor.take("iommu_attach:") ? this.#attachProbe(cursor, colon) : undefined;
      case A:
        return cursor.take("attach_device_to_domain:") ? this.#attach(cursor, colon) : undefined;
      case B:
      case P:
      case T:
        return this.#phase(cursor, colon);
      default:
        return undefined;
    }
  }

  /** What stands before the colon: "TASK-PID [000] flags 1.000001". False when it does not. The cursor stays where it is. */
  #head(cursor: LineCursor, colon: number): boolean {
    const { at } = cursor;
    cursor.at = colon;
    const time = cursor.backTo(SPACE);
    this.#time = nanoseconds(cursor);
    const timed = cursor.at === colon && this.#time > 0;
    cursor.at = time;
    cursor.backTo(OPEN);
    const known = cursor.decimal() && cursor.take("]");
    this.#cpu = cursor.value;
    cursor.at = at;
    return timed && known;
  }

  #mapping(cursor: LineCursor, kind: "map" | "unmap", colon: number): TraceEvent | undefined {
    cursor.blanks();
    if (!cursor.take("IOMMU:")) return undefined;
    const event = this.#head(cursor, colon) ? this.#mapped(cursor, kind) : undefined;
    if (event === undefined) this.malformed++;
    return event;
  }

  /**
   * " iova=0x… - 0x… paddr=0x… size=…", or of an unmap without paddr and with unmapped_size. Older kernels print no end of the
   * range, and the oldest sizes in hexadecimal.
   */
  #mapped(cursor: LineCursor, kind: "map" | "unmap"): TraceEvent | undefined {
    if (!cursor.blanks() || !cursor.take("iova=0x") || !cursor.hex()) return undefined;
    const { hi, lo } = cursor;
    const page = pageOf(hi, lo);
    const ended = cursor.take(" - 0x");
    if (ended && !cursor.hex()) return undefined;
    const end = pageOf(cursor.hi, cursor.lo);
    const hasPaddr = cursor.take(" paddr=0x");
    if (hasPaddr && !cursor.hex()) return undefined;
    const paddr = hasPaddr ? physical(cursor.hi, cursor.lo) : 0;
    if (!cursor.take(" size=") || !amount(cursor)) return undefined;
    const span = Math.ceil(cursor.value / PAGE_SIZE);
    if (cursor.take(" unmapped_size=") && !amount(cursor)) return undefined;
    const size = cursor.value;
    const pages = Math.ceil(size / PAGE_SIZE);
    cursor.blanks();
    if (cursor.next >= 0 || Math.max(span, pages) > LONGEST) return undefined;
    // The end of the range is where its size says.
    if (ended && page + span !== end && page + span - ALL_PAGES !== end) return undefined;
    const probe = this.#probes.get(this.#cpu);
    if (probe !== undefined) this.#probes.delete(this.#cpu);
    return {
      kind,
      cpu: this.#cpu,
      iova: join64(hi, lo),
      page,
      pages,
      paddr,
      size,
      bytes: toBigint(size),
      time: this.#time,
      domain: probe?.page === page ? probe.domain : undefined,
    };
  }

  /** " (__iommu_map+0x0/0x280) domain=0x… iova=0x…" */
  #probe(cursor: LineCursor, colon: number): undefined {
    cursor.blanks();
    cursor.skipWord();
    if (!cursor.take(" domain=")) return;
    const domain = cursor.word(this.#domain);
    if (!cursor.take(" iova=0x") || !cursor.hex() || !this.#head(cursor, colon)) return;
    this.#domain = domain;
    this.#probes.set(this.#cpu, { domain, page: pageOf(cursor.hi, cursor.lo) });
  }

  /** " 0000:00:07.0 dir=FROM_DEVICE dma_addr=fffbc000 …", or "dma_addrs={fffbc000,…}". */
  #dma(cursor: LineCursor, colon: number): TraceItem | undefined {
    cursor.blanks();
    this.#device = cursor.word(this.#device);
    if (!cursor.find("dma_addr")) return undefined;
    cursor.take("s");
    if (!cursor.take("=")) return undefined;
    cursor.take("{");
    cursor.take("0x");
    if (!cursor.hex() || !this.#head(cursor, colon)) return undefined;
    return { kind: "dma", cpu: this.#cpu, device: this.#device, page: pageOf(cursor.hi, cursor.lo) };
  }

  #attachProbe(cursor: LineCursor, colon: number): undefined {
    const probe = ATTACH_PROBE.exec(cursor.rest);
    if (probe !== null && this.#head(cursor, colon)) this.#attached.set(this.#cpu, probe[1]);
  }

  #attach(cursor: LineCursor, colon: number): TraceItem | undefined {
    const event = ATTACH.exec(cursor.rest);
    if (event === null || !this.#head(cursor, colon)) return undefined;
    const domain = this.#attached.get(this.#cpu);
    this.#attached.delete(this.#cpu);
    return { kind: "attach", device: event[1], domain };
  }

  #phase(cursor: LineCursor, colon: number): TraceItem | undefined {
    const mark = PHASE.exec(cursor.rest);
    if (mark === null || !this.#head(cursor, colon)) return undefined;
    return { kind: "phase", name: mark[1], time: this.#time };
  }
}

/** A line that does not begin as events do. */
function tellsOfMapping(text: string): boolean {
  const at = text.indexOf("map: ");
  return at >= 0 && text.includes("IOMMU:", at);
}

/** The next one; beyond all others when there is none. */
function indexOf(bytes: Buffer, byte: number, from: number): number {
  const at = bytes.indexOf(byte, from);
  return at < 0 ? bytes.length : at;
}

/** The colon behind the time, which is behind the CPU; the line's end without one. A task's name may hold anything. */
function endOfHead({ bytes, end }: LineCursor, cpu: number): number {
  let colon = indexOf(bytes, COLON, cpu);
  while (colon < end && !(isDigit(bytes[colon - 1]) && isBlank(bytes[colon + 1])))
    colon = indexOf(bytes, COLON, colon + 1);
  return Math.min(colon, end);
}

/** Puts a number of bytes, decimal or behind 0x, into `value`. */
function amount(cursor: LineCursor): boolean {
  if (!cursor.take("0x")) return cursor.decimal();
  if (!cursor.hex()) return false;
  cursor.value = (cursor.hi >>> 0) * 2 ** 32 + (cursor.lo >>> 0);
  return true;
}

/** Of seconds with up to nine digits behind the point; NaN when there are none. */
function nanoseconds(cursor: LineCursor): number {
  if (!cursor.decimal()) return Number.NaN;
  const seconds = cursor.value * 1e9;
  if (!cursor.take(".")) return seconds;
  const point = cursor.at;
  return cursor.decimal() ? seconds + cursor.value * NANOSECONDS[cursor.at - point] : Number.NaN;
}

/** Of an address of 64 bits, exact. */
function pageOf(hi: number, lo: number): number {
  return (hi >>> 0) * 2 ** 20 + (lo >>> 12);
}
