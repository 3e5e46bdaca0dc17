/**
 * Which domain each map and unmap was for. The iommu events do not say it. A kprobe's pointer does; else an unmap is of the
 * domain that was flushed for it (strict) or next (lazy), and a map is of the domain of the unmap that took it away.
 */
import type { MapCall, Recording, UnmapCall } from "./recording.js";

export function assignDomains({ steps, lazy }: Recording): void {
  if (lazy) assignByNextFlush(steps);
  assignByPointer(steps);
  assignMaps(steps);
  assignAttached(steps);
}

/** A device came to the domain that it leaves later; only kernels with cache tag events say it when it comes. */
function assignAttached(steps: Recording["steps"]): void {
  const left = new Map<string, number>();
  for (const step of steps.toReversed()) {
    if (step.kind === "detach") left.set(step.device, step.did);
    else if (step.kind === "attach") {
      step.did ??= left.get(step.device);
      left.delete(step.device);
    }
  }
}

/** Lazy: the first flush after an unmap is of its domain, since others are quiet or flushed long before. */
function assignByNextFlush(steps: Recording["steps"]): void {
  let did: number | undefined;
  for (const step of steps.toReversed()) {
    if (step.kind === "flush") did = step.did;
    else if (step.kind === "unmap") step.did ??= did;
  }
}

/** The pointer of a domain means the domain-id that most of its unmaps have. */
function assignByPointer(steps: Recording["steps"]): void {
  const votes = new Map<string, Map<number, number>>();
  for (const step of steps) {
    if (step.kind !== "unmap" || step.domain === undefined || step.did === undefined) continue;
    const counts = votes.get(step.domain) ?? new Map<number, number>();
    votes.set(step.domain, counts.set(step.did, (counts.get(step.did) ?? 0) + 1));
  }
  const winner = new Map(
    [...votes].map(([domain, counts]) => [domain, [...counts].sort(([, a], [, b]) => b - a)[0][0]]),
  );
  for (const step of steps) {
    if ((step.kind === "map" || step.kind === "unmap") && step.domain !== undefined) step.did = winner.get(step.domain);
  }
}

/** An unmap takes away the latest map of its very range, or else the latest maps that tile it. */
function assignMaps(steps: Recording["steps"]): void {
  const open = new Map<bigint, MapCall[]>();
  for (const step of steps) {
    if (step.kind === "map" && step.did === undefined) open.set(step.iova, [...(open.get(step.iova) ?? []), step]);
    else if (step.kind === "unmap") tile(step, open);
  }
}

function tile({ iova, size, did }: UnmapCall, open: Map<bigint, MapCall[]>): void {
  const end = iova + size;
  for (let at = iova; at < end; ) {
    const here = open.get(at);
    if (!here) return;
    const whole = here.findLastIndex((map) => map.iova + map.size === end);
    const index = whole >= 0 ? whole : here.findLastIndex((map) => map.iova + map.size <= end);
    if (index < 0) return;
    const [map] = here.splice(index, 1);
    map.did = did;
    at += map.size;
  }
}
