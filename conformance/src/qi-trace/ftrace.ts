/** Lines of a Linux function trace: tracefs' `trace`, `trace-cmd report`, `perf script`. */
export interface FtraceEvent {
  /** Line number in the file, from 1. */
  readonly line: number;
  readonly cpu: number;
  /** Who ran, a task or the interrupts of a CPU: what one does, it does in order. */
  readonly thread: string;
  /** 0 a task, 1 softirqs, 2 interrupts: the CPU goes on with the lower one afterwards. */
  readonly depth: number;
  readonly name: string;
  readonly text: string;
}

/** Stands where a CPU's events were lost. */
export const LOST = "LOST";

/** `TASK-PID (TGID) [cpu] flags seconds: system:event: text`; TGID, flags and system may be missing. */
const LINE = /^\s*.+[-\s](\d+)\s+(?:\(.*?\)\s+)?\[(\d+)\]\s+(?:(\S+)\s+)?[\d.]+:\s+(?:\w+:)?(\w+):\s*(.*?)\s*$/;
const GAP = /^\s*CPU:?\s?(\d+) \[(?:LOST )?\d+ EVENTS/;
/** By the third flag: softirq; interrupt, also within a softirq. Everything else is a task. */
const DEPTHS: Readonly<Record<string, number>> = { s: 1, h: 2, H: 2, z: 2, Z: 2 };

/** Comments and lines of other shapes are left out. */
export function parseFtrace(lines: readonly string[]): FtraceEvent[] {
  const events: FtraceEvent[] = [];
  for (const [index, text] of lines.entries()) {
    const line = index + 1;
    const match = LINE.exec(text);
    if (match) events.push(event(line, match));
    else {
      const gap = GAP.exec(text);
      if (gap) events.push({ line, cpu: Number(gap[1]), thread: "", depth: 0, name: LOST, text: "" });
    }
  }
  return events;
}

/** The lines begin where tracing began: tracefs' header counts what the buffer holds and what was written to it. */
export function isWhole(lines: readonly string[], events: readonly FtraceEvent[]): boolean {
  const header = lines.slice(0, 5).map((line) => /^# entries-in-buffer\/entries-written: (\d+)\/(\d+) /.exec(line));
  const [, held, written] = header.find((match) => match !== null) ?? [];
  return held !== undefined && held === written && events.length * 100 >= Number(held) * 99;
}

function event(line: number, [, pid, digits, flags, name, text]: RegExpExecArray): FtraceEvent {
  const cpu = Number(digits);
  const depth = DEPTHS[flags?.[2] ?? ""] ?? 0;
  // Every CPU's idle task has the number 0.
  const thread = depth > 0 ? `${flags[2].toLowerCase()}@${cpu}` : pid === "0" ? `idle@${cpu}` : pid;
  return { line, cpu, thread, depth, name, text };
}
