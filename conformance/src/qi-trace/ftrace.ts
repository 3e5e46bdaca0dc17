/** Lines of a Linux function trace (tracefs `trace`): `TASK-PID [cpu] flags seconds: event: text`. */
export interface FtraceEvent {
  /** Line number in the file, from 1. */
  readonly line: number;
  readonly cpu: number;
  readonly name: string;
  readonly text: string;
}

const LINE = /^\s*.+-\d+\s+(?:\(.*?\)\s+)?\[(\d+)\]\s+\S+\s+[\d.]+:\s+(\w+):\s*(.*)$/;

/** Comments and lines of other shapes are left out. */
export function parseFtrace(lines: readonly string[]): FtraceEvent[] {
  const events: FtraceEvent[] = [];
  for (const [index, text] of lines.entries()) {
    const match = LINE.exec(text);
    if (match) events.push({ line: index + 1, cpu: Number(match[1]), name: match[2], text: match[3] });
  }
  return events;
}
