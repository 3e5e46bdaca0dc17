/** How a kernel goes about invalidation, as far as it shows in a trace as a whole. */
import type { FtraceEvent } from "./ftrace.js";

/** The range by which kernels without cache_tag_flush_all (7.3) mean the whole domain. */
export const EVERYTHING = "[0x0-0xffffffffffffffff]";

/** Granularity 3 in the first quad-word (VT-d 6.5.2.3). */
const OF_PAGES = /: 0x[0-9a-f]*f2 /;
const WITH_HINT = /f2 0x[0-9a-f]+[4-7][0-9a-f] /;

/** The kernel says with cache_tag events what a descriptor is for. */
export function isTagged(events: readonly FtraceEvent[]): boolean {
  return events.some(({ name }) => name.startsWith("cache_tag_"));
}

/** What a trace without cache_tag events tells by the order of its lines. */
export interface Manner {
  /** Not where pages are invalidated behind a map: then absent entries are cached, and kernels are strict. */
  readonly lazy: boolean;
  /** Invalidations of pages behind unmaps say that only leaf entries changed (IH): the kernel is 6.11 or later. */
  readonly hints: boolean;
}

export function mannerOf(events: readonly FtraceEvent[]): Manner {
  const last = new Map<string, string>();
  let unmaps = 0;
  let own = 0;
  let hinted = 0;
  let maps = 0;
  for (const { thread, name, text } of events) {
    const invalidates = name === "qi_submit" && text.startsWith("iotlb_inv ");
    const behind = invalidates ? last.get(thread) : undefined;
    if (name === "unmap") unmaps++;
    if (behind === "unmap") own++;
    if (behind === "unmap" && WITH_HINT.test(text)) hinted++;
    if (behind === "map" && OF_PAGES.test(text)) maps++;
    if (invalidates || name === "map" || name === "unmap") last.set(thread, name);
  }
  return { lazy: maps === 0 && waitsForCommon(unmaps, own), hints: hinted * 2 > own };
}

/** Lazy kernels have few unmaps with an invalidation of their own; 7.3 has for most of a disk's. */
export function waitsForCommon(unmaps: number, own: number): boolean {
  return (unmaps - own) * 8 > unmaps;
}

/** Why the player cannot stand for the recorded machine; undefined when it can. */
export function unlike(events: readonly FtraceEvent[]): string | undefined {
  const units = new Map<string, number>();
  let legacy = 0;
  let scalable = 0;
  for (const { name, text } of events) {
    const [, kind, unit] = (name === "qi_submit" && /^(\w+) (\w+):/.exec(text)) || [];
    if (kind === "p_iotlb_inv") scalable++;
    if (kind !== "iotlb_inv") continue;
    legacy++;
    units.set(unit, (units.get(unit) ?? 0) + 1);
  }
  if (scalable > legacy) return "invalidates by PASID (p_iotlb_inv): the suite plays legacy mode";
  const busy = [...units].filter(([, count]) => count * 20 > legacy).map(([unit]) => unit);
  return busy.length > 1 ? `is of more than one unit, ${busy.join(" and ")}: the suite plays one` : undefined;
}
