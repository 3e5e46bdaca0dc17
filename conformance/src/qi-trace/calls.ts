/** What a thread is seen to do becomes steps. */
import type { Book } from "./book.js";
import { deviceIn, field, flushedRange, pages, rangeIn } from "./fields.js";
import type { FtraceEvent } from "./ftrace.js";
import type { Attach, Detach, FlushAll, MapStep, UnmapStep } from "./steps.js";
import { type Call, goesOn, type Thread, takeEnd } from "./thread.js";

const NO_DEVICE_LEFT = "unmap right after a device has left: its domain may have none";
const NO_DEVICE_YET = "mapping right before a device comes: its domain may have none";

export class Calls {
  /** Unmaps, and those that an invalidation of their own was announced for. */
  unmaps = 0;
  own = 0;

  constructor(private readonly book: Book) {}

  map(event: FtraceEvent, thread: Thread): void {
    const pa = Number(field(event, /paddr=(0x[0-9a-f]+)/));
    const call = { kind: "map" as const, parts: [{ ...rangeIn(event), pa }], ...inDomain(thread) };
    called(thread, call);
    const step: MapStep = this.book.add({ ...call, ...this.book.begun(event, thread) });
    thread.maps.push(step);
    thread.lastMap = step;
    thread.current.push(step);
  }

  unmap(event: FtraceEvent, thread: Thread): void {
    const { iova } = rangeIn(event);
    const size = pages(event, field(event, /unmapped_size=(\d+)/));
    if (size === 0n) return;
    const call = { kind: "unmap" as const, parts: [{ iova, size }], ...inDomain(thread) };
    called(thread, call);
    const step: UnmapStep = this.book.add({ ...call, own: false, ...this.book.begun(event, thread) });
    if (thread.hasDetached) step.doubt ??= NO_DEVICE_LEFT;
    thread.unmaps.push(step);
    thread.current.push(step);
    this.unmaps++;
  }

  /** A device that is coming; the event that ends it says which. */
  attaching(event: FtraceEvent, thread: Thread, device = ""): Attach {
    for (const map of thread.maps) map.doubt ??= NO_DEVICE_YET;
    thread.attaching ??= this.book.add({
      kind: "attach",
      ...this.book.begun(event, thread),
      device,
      ...inDomain(thread),
    });
    thread.current = [thread.attaching];
    return thread.attaching;
  }

  attached(event: FtraceEvent, thread: Thread): void {
    this.attaching(event, thread).device = deviceIn(event);
    thread.attaching = undefined;
    thread.settled = true;
  }

  detaching(event: FtraceEvent, thread: Thread, did: number, device: string): Detach {
    let { detaching } = thread;
    if (detaching?.did === did) detaching.device ||= device;
    else detaching = this.book.add({ kind: "detach", ...this.book.begun(event, thread), device, did });
    thread.detaching = detaching;
    thread.current = [detaching];
    return detaching;
  }

  /** A descriptor for the range is about to be queued: for the last of the calls that nothing was queued for. */
  flushRange(event: FtraceEvent, thread: Thread, pending: (MapStep | UnmapStep)[], did: number): void {
    const range = flushedRange(event);
    const step = takeEnd(pending, range);
    if (!step) return;
    if (step.kind === "unmap") {
      step.own = true;
      this.own += step.parts.length;
    }
    step.did = did;
    thread.waiting.push({ step, did, range });
    thread.current = [step];
  }

  flushAll(event: FtraceEvent, thread: Thread, did: number): FlushAll {
    const step = this.book.add({ kind: "flush" as const, ...this.book.begun(event, thread), did });
    thread.current = [step];
    return step;
  }
}

/** What the thread did before has ended, unless this goes on with it. */
function called(thread: Thread, call: Call): void {
  const last = thread.current.at(-1);
  if (last && !("parts" in last && goesOn(last, call))) thread.settle();
  thread.attaching = undefined;
  thread.detaching = undefined;
}

/** The pointer that a kprobe has left, and no domain-id yet. */
function inDomain(thread: Thread) {
  const { domain } = thread;
  thread.domain = undefined;
  return { domain, did: undefined };
}
