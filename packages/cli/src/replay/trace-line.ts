/**
 * Lines of an ftrace text (or of `trace-cmd report`): iommu:map and iommu:unmap, the kprobes on iommu_map and iommu_unmap that
 * say which domain they are for, and "PHASE name" marks. Everything else is passed over.
 */

export interface TraceEvent {
  readonly kind: "map" | "unmap";
  readonly iova: bigint;
  readonly paddr: number;
  readonly size: bigint;
  /** Nanoseconds since boot. */
  readonly time: number;
  /** The domain's pointer when a kprobe told it. */
  readonly domain: string | undefined;
}

export type TraceItem = TraceEvent | { readonly kind: "phase"; readonly name: string };

/** From "map:" on. */
const EVENT =
  /map:\s+IOMMU:\s+iova=0x([0-9a-f]{1,16}) - 0x[0-9a-f]{1,17} (?:paddr=0x([0-9a-f]{1,16}) )?size=(\d+)(?: unmapped_size=(\d+))?\s*$/y;
/** What stands before it: CPU, flags, seconds. */
const HEAD = /\[(\d{3})\] .*? (\d+\.\d{6}):\s+(?:un)?$/;
const PROBE = /\[(\d{3})\].*\biommu_(map|unmap): \(.*\) domain=(0x[0-9a-f]+) iova=0x([0-9a-f]+)/;
const PHASE = /tracing_mark_write: PHASE (\S.*?)\s*$/;

export class TraceReader {
  /** The kprobe that came last, by CPU. */
  readonly #probes = new Map<string, { readonly domain: string; readonly iova: bigint }>();

  /** Undefined for a line that is none of them. */
  read(text: string): TraceItem | undefined {
    if (text.includes("PHASE ")) {
      const mark = PHASE.exec(text);
      if (mark !== null) return { kind: "phase", name: mark[1] };
    }
    const at = text.indexOf("map: ");
    if (at < 0) return undefined;
    EVENT.lastIndex = at;
    const event = EVENT.exec(text);
    const head = event === null ? null : HEAD.exec(text.slice(0, at));
    if (event !== null && head !== null)
      return this.#event(text.startsWith("un", at - 2) ? "unmap" : "map", head, event);
    const probe = PROBE.exec(text);
    if (probe !== null) this.#probes.set(probe[1], { domain: probe[3], iova: BigInt(`0x${probe[4]}`) });
    return undefined;
  }

  #event(
    kind: "map" | "unmap",
    [, cpu, seconds]: RegExpExecArray,
    [, iova, paddr, size, unmapped]: RegExpExecArray,
  ): TraceEvent {
    const start = BigInt(`0x${iova}`);
    const probe = this.#probes.get(cpu);
    this.#probes.delete(cpu);
    return {
      kind,
      iova: start,
      paddr: paddr === undefined ? 0 : Number(`0x${paddr}`),
      size: BigInt(unmapped ?? size),
      time: Math.round(Number(seconds) * 1e9),
      domain: probe?.iova === start ? probe.domain : undefined,
    };
  }
}
