/** Tells a history what the trace tells: a step of which it says something touches the part of the machine that it speaks of. */
import type { TraceName, Tracer } from "@iommukit/core";
import type { Checker } from "../sanitizer/checker.js";
import { hashOf } from "./hash.js";
import type { History } from "./history.js";
import type { Spot } from "./spot.js";

/** Devices, chips and their caches: what a translation is made of. */
export const TRANSLATION = "translation";
/** Parts of the machine by the noun of their events; the others are the kernel's. */
const PARTS: Readonly<Record<string, string>> = {
  dma: TRANSLATION,
  translate: TRANSLATION,
  tlb: TRANSLATION,
  cache: TRANSLATION,
  ats: TRANSLATION,
  pri: TRANSLATION,
  stall: TRANSLATION,
  fault: TRANSLATION,
  device: TRANSLATION,
  mm: "mm",
  notifier: "mm",
  page: "mm",
  pasid: "sva",
  bond: "sva",
  iopf: "sva",
  domain: "domains",
  iommu: "domains",
};
/** Of what is seen as memory or as a chip already. */
const PRIVATE: ReadonlySet<string> = new Set(["command", "config", "table", "irq"]);

interface Event {
  readonly hash: number;
  readonly spots: readonly Spot[];
}

/** Takes the trace's `onEmit`. */
export function watchTrace(history: History, trace: Tracer, checkers: readonly Checker[] = []): void {
  const known = new Map<TraceName, Event>();
  const learn = (name: TraceName): Event => {
    const noun = name.split(":")[0];
    const spots = PRIVATE.has(noun) || noun === "lock" ? [] : [history.spot(PARTS[noun] ?? "kernel")];
    // Checkers keep notes, so the order of what they hear is part of the state.
    for (const [at, { listeners, commutes }] of checkers.entries())
      if (!commutes && name in listeners) spots.push(history.spot(`checker ${"i".repeat(at)}`));
    const event = { hash: hashOf(name), spots };
    known.set(name, event);
    return event;
  };
  trace.onEmit = (name, payload) => {
    const { hash, spots } = known.get(name) ?? learn(name);
    history.saw(hash);
    for (const spot of spots) history.touch(spot, true);
    if ("lock" in payload) history.touch(history.spot(payload.lock), true);
  };
}
