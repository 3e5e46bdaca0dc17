/**
 * Which call of its thread an IOTLB invalidation was queued for. `cache_tag_flush_*` lines have said it just before (6.11 and
 * later); older kernels queue it right behind the call.
 */
import { didOf, pagesOf } from "./descriptor.js";
import type { MapStep, QiDescriptor, Step, UnmapStep } from "./steps.js";
import { type Thread, takeEnd, within } from "./thread.js";

export function announcedOwner(thread: Thread, descriptor: QiDescriptor): Step | undefined {
  const { waiting, attaching, detaching } = thread;
  const did = didOf(descriptor);
  const pages = pagesOf(descriptor);
  const fits = waiting.findLast(
    ({ did: announced, range }) =>
      announced === did && (!pages || (range && range.start >= pages.start && range.end <= pages.end)),
  );
  // One that fits nothing differs from what the thread has announced last.
  const chosen = fits ?? (attaching || detaching ? undefined : waiting.at(-1));
  if (!chosen) return changingDevice(thread, did);
  thread.waiting = waiting.filter((other) => other !== chosen);
  return chosen.step;
}

/** @param lazy a domain is invalidated as a whole by its flush queue: a step of its own, "flush" */
export function latestOwner(thread: Thread, descriptor: QiDescriptor, lazy: boolean): Step | "flush" | undefined {
  const did = didOf(descriptor);
  const pages = pagesOf(descriptor);
  if (!pages) {
    const owner = changingDevice(thread, did);
    if (owner) return owner;
    if (lazy || thread.current.at(-1)?.kind === "attach") return "flush";
  }
  const latest = [thread.unmaps, thread.maps].filter((calls) => calls.length > 0);
  latest.sort((a, b) => b[b.length - 1].line - a[a.length - 1].line);
  const covered = latest.find((calls) => !pages || within(calls[calls.length - 1], pages));
  // What covers none of them differs from what the last one needs.
  const calls = covered ?? latest.at(0);
  const owner = calls && takeEnd<MapStep | UnmapStep>(calls, lazy ? pages : undefined);
  if (!owner) return undefined;
  owner.did = did;
  if (owner.kind === "unmap") owner.own = true;
  return owner;
}

/** The device that comes, or the one that leaves the domain. */
function changingDevice(thread: Thread, did: number): Step | undefined {
  const { attaching, detaching } = thread;
  if (attaching) {
    attaching.did ??= did;
    return attaching;
  }
  if (detaching?.did !== did) return undefined;
  thread.detaching = undefined;
  return detaching;
}
