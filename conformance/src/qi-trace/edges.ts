/**
 * Which calls a file shows only in part, because it begins or ends (or a CPU's events were lost) in the middle of them: a
 * thread can only be in one when nothing else that its CPU would have to leave the call for has run since, or until then.
 */
import type { FtraceEvent } from "./ftrace.js";

type Place = Pick<FtraceEvent, "cpu" | "thread" | "depth">;

export class Edges {
  /** By CPU: the last line of each thread that ran there, and how deep. */
  readonly #cpus = new Map<number, Map<string, { readonly line: number; readonly depth: number }>>();

  see({ cpu, thread, depth, line }: FtraceEvent): void {
    const threads = this.#cpus.get(cpu) ?? new Map<string, { line: number; depth: number }>();
    this.#cpus.set(cpu, threads.set(thread, { line, depth }));
  }

  /** Other threads have run on the CPU after the line, not as an interrupt of this one. */
  othersSince({ cpu, thread, depth }: Place, line: number): boolean {
    for (const [other, last] of this.#cpus.get(cpu) ?? [])
      if (other !== thread && last.depth <= depth && last.line > line) return true;
    return false;
  }

  /** The CPU's events begin anew. */
  lost(cpu: number): void {
    this.#cpus.delete(cpu);
  }
}
