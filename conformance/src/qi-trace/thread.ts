/** What one thread of the kernel has begun and not been seen to end. */
import type { FtraceEvent } from "./ftrace.js";
import type { Attach, Detach, MapStep, Range, Step, UnmapStep } from "./steps.js";

/** A step that a cache_tag_flush line has announced a descriptor for. */
export interface Waiting {
  readonly step: Step;
  readonly did: number;
  /** Range that the descriptor must cover; absent for a whole domain. */
  readonly range?: Inclusive;
}

/** Both ends are part of it. */
export interface Inclusive {
  readonly start: bigint;
  readonly end: bigint;
}

export class Thread {
  /** Calls that nothing has been queued for, in order. */
  readonly maps: MapStep[] = [];
  readonly unmaps: UnmapStep[] = [];
  lastMap: MapStep | undefined;
  waiting: Waiting[] = [];
  attaching: Attach | undefined;
  detaching: Detach | undefined;
  /** What it did last and may still be doing. */
  current: Step[] = [];
  /** Where that was. */
  at: FtraceEvent | undefined;
  /** It is known not to be in the middle of something that it began before the file does. */
  settled = false;
  /** It has taken a device from a domain, and nothing else was queued for it since. */
  hasDetached = false;
  /** Device that is being taken out of its group. */
  removed = "";
  /** Pointer of the domain of the next map or unmap, from a kprobe. */
  domain: string | undefined;

  /** Nothing that it did before is still under way. */
  settle(): void {
    this.settled = true;
    this.current = [];
  }
}

export const lastOf = ({ iova, size }: Range): bigint => iova + size - 1n;

export function within(step: MapStep | UnmapStep, { start, end }: Inclusive): boolean {
  return step.parts.every((part) => part.iova >= start && lastOf(part) <= end);
}

export type Call = Pick<MapStep | UnmapStep, "kind" | "parts" | "domain">;

/** A call of the same kind and domain that begins where `step` ends: the next element of a scatter list, or of a gathered unmap. */
export function goesOn(step: Call, next: Call): boolean {
  const { iova, size } = step.parts[step.parts.length - 1];
  const sameDomain = (step.domain ?? next.domain) === (next.domain ?? step.domain);
  return step.kind === next.kind && sameDomain && iova + size === next.parts[0].iova;
}

/** Those calls as one step, the first; the others are left empty. */
export function join<S extends MapStep | UnmapStep>([first, ...rest]: readonly S[]): S {
  for (const step of rest) {
    (first.parts as Range[]).push(...step.parts.splice(0));
    first.doubt ??= step.doubt;
    first.domain ??= step.domain;
  }
  return first;
}

/** The last calls of `pending` that go on from one to the next as one step. @param range every one of them is within */
export function takeEnd<S extends MapStep | UnmapStep>(pending: S[], range?: Inclusive): S | undefined {
  let from = pending.length;
  const belongs = (step: S, next: S | undefined) =>
    (!range || within(step, range)) && (next === undefined || goesOn(step, next));
  while (from > 0 && belongs(pending[from - 1], pending[from])) from--;
  return from < pending.length ? join(pending.splice(from)) : undefined;
}

/** Calls that go on from one to the next. */
export function runsOf(maps: readonly MapStep[]): MapStep[][] {
  const runs: MapStep[][] = [];
  for (const map of maps) {
    const run = runs.at(-1);
    const last = run?.at(-1);
    if (run && last && goesOn(last, map)) run.push(map);
    else runs.push([map]);
  }
  return runs;
}
