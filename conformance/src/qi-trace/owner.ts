/**
 * Which call of its thread an IOTLB invalidation was queued for. `cache_tag_flush_*` lines have said it just before (6.11 and
 * later); older kernels queue it right behind the call.
 */
import { didOf, pagesOf } from "./descriptor.js";
import type { QiDescriptor, Step } from "./steps.js";
import { goesOn, type Thread, takeEnd, within } from "./thread.js";

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
    if (lazy || thread.current?.kind === "attach") return "flush";
  }
  const covers = (step: MapOrUnmap) => !pages || within(step, pages);
  const latest = [thread.unmaps.at(-1), thread.maps.at(-1)].filter((step) => step !== undefined);
  latest.sort((a, b) => b.line - a.line);
  const chosen = latest.find(covers) ?? latest.at(0);
  if (!chosen) return undefined;
  const owner =
    chosen.kind === "map"
      ? takeEnd(thread.maps, (step, next) => !next || goesOn(step, next))
      : takeEnd(thread.unmaps, (step, next) => !next || (pages !== undefined && within(step, pages)));
  if (!owner) return undefined;
  owner.did = did;
  if (owner.kind === "unmap") owner.own = true;
  return owner;
}

type MapOrUnmap = Thread["maps"][number] | Thread["unmaps"][number];

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
