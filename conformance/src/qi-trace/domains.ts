/**
 * Which domain each map and unmap was for. The iommu events do not say it; a descriptor queued for it does, and a kprobe's
 * pointer. Else an unmap is of the domain that is flushed next (lazy), and a map is of the domain of the unmap that took it away.
 */
import { type Contradiction, Pairs } from "./pairs.js";
import type { Recording, Step } from "./steps.js";

/** @returns unmaps whose mapping was made, by its own descriptor, under another domain-id */
export function assignDomains({ steps, lazy }: Recording): Contradiction[] {
  if (lazy) assignByNextFlush(steps);
  assignByPointer(steps);
  const pairs = new Pairs();
  for (const step of steps) {
    if (step.kind === "map") pairs.map(step);
    else if (step.kind === "unmap") pairs.unmap(step);
  }
  assignAttached(steps);
  return pairs.contradictions();
}

/** A device came to the domain that it leaves later; only kernels with cache tag events say it when it comes. */
function assignAttached(steps: readonly Step[]): void {
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
function assignByNextFlush(steps: readonly Step[]): void {
  let did: number | undefined;
  for (const step of steps.toReversed()) {
    if (step.kind === "flush") did = step.did;
    else if (step.kind === "unmap") step.did ??= did;
  }
}

/** The pointer of a domain means the domain-id that most of its calls have. */
function assignByPointer(steps: readonly Step[]): void {
  const votes = new Map<string, Map<number, number>>();
  for (const step of steps) {
    if (!("domain" in step) || step.domain === undefined || step.did === undefined) continue;
    const counts = votes.get(step.domain) ?? new Map<number, number>();
    votes.set(step.domain, counts.set(step.did, (counts.get(step.did) ?? 0) + 1));
  }
  const winner = new Map(
    [...votes].map(([domain, counts]) => [domain, [...counts].sort(([, a], [, b]) => b - a)[0][0]]),
  );
  for (const step of steps) {
    if ("domain" in step && step.domain !== undefined) step.did = winner.get(step.domain) ?? step.did;
  }
}
