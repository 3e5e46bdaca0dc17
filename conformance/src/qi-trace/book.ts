/** The steps of a trace while it is read, and what could not become one. */
import { Edges } from "./edges.js";
import type { FtraceEvent } from "./ftrace.js";
import type { QiDescriptor, Step } from "./steps.js";
import type { Thread } from "./thread.js";

export const IN_PART = "call that the file shows only in part";

export class Book {
  readonly steps: Step[] = [];
  readonly orphans: { line: number; descriptor: QiDescriptor }[] = [];
  readonly unreadable: { line: number; text: string }[] = [];
  readonly leftOut = new Map<string, number>();
  readonly edges = new Edges();
  /** CPUs by number, in order of appearance. */
  readonly #cpus = new Map<number, number>();

  get cpus(): number {
    return Math.max(1, this.#cpus.size);
  }

  add<S extends Step>(step: S): S {
    this.steps.push(step);
    return step;
  }

  leaveOut(what: string): void {
    this.leftOut.set(what, (this.leftOut.get(what) ?? 0) + 1);
  }

  /** What every step begins with. */
  begun(event: FtraceEvent, thread: Thread) {
    const cpu = this.#cpus.get(event.cpu) ?? this.#cpus.size;
    this.#cpus.set(event.cpu, cpu);
    const doubt = this.mayHaveBegunBefore(event, thread) ? IN_PART : undefined;
    return { line: event.line, cpu, expected: [], doubt };
  }

  /** The thread may be in the middle of something that it began before the file does. */
  mayHaveBegunBefore(event: FtraceEvent, thread: Thread): boolean {
    return !thread.settled && !this.edges.othersSince(event, 0);
  }

  /** The thread's events end, perhaps in the middle of something. */
  end({ at, current, maps, lastMap }: Thread): void {
    if (!at || this.edges.othersSince(at, at.line)) return;
    for (const step of current) step.doubt ??= IN_PART;
    // Where the lines do not tell a task from its interrupts, an interrupt's calls may have come behind those of a list.
    if (lastMap && maps.at(-1) === lastMap) lastMap.doubt ??= IN_PART;
  }
}
