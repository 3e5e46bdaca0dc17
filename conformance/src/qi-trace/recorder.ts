/** Reads from a trace what the kernel did, and which descriptors it queued for it. */
import { Book, IN_PART } from "./book.js";
import { Calls } from "./calls.js";
import { deviceIn, domainIn, field } from "./fields.js";
import { type FtraceEvent, LOST } from "./ftrace.js";
import { EVERYTHING, isTagged, mannerOf, waitsForCommon } from "./manner.js";
import type { MapStep, Recording } from "./steps.js";
import { Submissions } from "./submissions.js";
import { join, runsOf, Thread } from "./thread.js";

export class Recorder {
  readonly #book = new Book();
  readonly #calls = new Calls(this.#book);
  readonly #submissions: Submissions;
  readonly #threads = new Map<string, Thread>();
  /** Maps of ended threads that nothing was queued for. */
  readonly #unanswered: MapStep[][] = [];
  readonly #tagged: boolean;
  readonly #hints: boolean;
  #lazy: boolean;
  #cachingMode = false;

  private constructor(events: readonly FtraceEvent[]) {
    this.#tagged = isTagged(events);
    const { lazy, hints } = mannerOf(events);
    this.#hints = this.#tagged || hints;
    this.#lazy = !this.#tagged && lazy;
    this.#submissions = new Submissions(this.#book, this.#calls, this.#tagged, this.#lazy);
  }

  static read(events: readonly FtraceEvent[]): Recording {
    const recorder = new Recorder(events);
    for (const event of events) recorder.#read(event);
    recorder.#forgiveLast(events.at(-1));
    return recorder.#finish();
  }

  #finish(): Recording {
    for (const [name, thread] of this.#threads) this.#end(name, thread);
    const { unmaps, own } = this.#calls;
    const cachingMode = this.#cachingMode || this.#submissions.cachesAbsent || this.#mostMapsAnswered();
    // What nothing was queued for is a scatter list nevertheless.
    if (cachingMode) for (const run of this.#unanswered) join(run);
    const { steps, cpus, leftOut, orphans, unreadable } = this.#book;
    return {
      steps: steps.filter((step) => !("parts" in step) || step.parts.length > 0),
      lazy: this.#lazy || (this.#tagged && waitsForCommon(unmaps, own)),
      cachingMode,
      hints: this.#hints,
      cpus,
      leftOut,
      orphans,
      unreadable,
    };
  }

  /** The file may end in the middle of its last line. */
  #forgiveLast(last: FtraceEvent | undefined): void {
    const { unreadable } = this.#book;
    if (unreadable.length === 0 || unreadable.at(-1)?.line !== last?.line) return;
    unreadable.pop();
    this.#book.leaveOut("line that the file ends in");
  }

  #mostMapsAnswered(): boolean {
    const whole = this.#unanswered.filter((run) => run.at(-1)?.doubt !== IN_PART);
    return this.#submissions.answered > whole.length;
  }

  #end(name: string, thread: Thread): void {
    this.#book.end(thread);
    this.#unanswered.push(...runsOf(thread.maps));
    this.#threads.delete(name);
  }

  #read(event: FtraceEvent): void {
    if (event.name === LOST) {
      for (const [name, thread] of this.#threads) if (thread.at?.cpu === event.cpu) this.#end(name, thread);
      this.#book.edges.lost(event.cpu);
      return;
    }
    const thread = this.#threads.get(event.thread) ?? new Thread();
    this.#threads.set(event.thread, thread);
    thread.at = event;
    try {
      this.#event(event, thread);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      this.#book.unreadable.push({ line: event.line, text: `${event.name}: ${event.text}` });
    }
    this.#book.edges.see(event);
  }

  #event(event: FtraceEvent, thread: Thread): void {
    switch (event.name) {
      case "iommu_map":
      case "iommu_unmap":
      case "iommu_attach":
        thread.domain = domainIn(event);
        return;
      case "map":
        this.#calls.map(event, thread);
        return;
      case "unmap":
        this.#calls.unmap(event, thread);
        return;
      case "attach_device_to_domain":
        this.#calls.attached(event, thread);
        return;
      case "remove_device_from_group":
        thread.settle();
        thread.removed = deviceIn(event);
        return;
      case "qi_submit":
        this.#submissions.read(event, thread);
        return;
      default:
        // Device-TLBs and nested domains have tags of their own.
        if (event.name.startsWith("cache_tag_") && event.text.includes(" type iotlb ")) this.#cacheTag(event, thread);
    }
  }

  #cacheTag(event: FtraceEvent, thread: Thread): void {
    const did = Number(field(event, / did (\d+)/));
    switch (event.name) {
      case "cache_tag_assign":
        this.#calls.attaching(event, thread).did = did;
        return;
      case "cache_tag_unassign":
        this.#calls.detaching(event, thread, did, thread.removed);
        thread.removed = "";
        return;
      case "cache_tag_flush_range_np":
        this.#cachingMode = true;
        this.#calls.flushRange(event, thread, thread.maps, did);
        return;
      case "cache_tag_flush_range":
        if (event.text.includes(EVERYTHING)) this.#flushAll(event, thread, did);
        else this.#calls.flushRange(event, thread, thread.unmaps, did);
        return;
      case "cache_tag_flush_all":
        this.#flushAll(event, thread, did);
    }
  }

  #flushAll(event: FtraceEvent, thread: Thread, did: number): void {
    this.#lazy = true;
    thread.waiting.push({ step: this.#calls.flushAll(event, thread, did), did });
  }
}
