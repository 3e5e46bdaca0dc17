/**
 * What Chrome's JSON trace format ("Trace Event Format", Google) asks of each event, and Perfetto of all together: slices of one
 * track must not overlap, async events pair up by process, category and id, counters are numbers.
 */

export interface ChromeEvent {
  readonly ph: string;
  readonly name: string;
  readonly pid: number;
  readonly tid?: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly id?: string;
  readonly cat?: string;
  readonly args?: Readonly<Record<string, unknown>>;
}

const COMMON = ["ph", "name", "pid"];
/** Fields of each phase: those that must be there, and those that may be. */
const FIELDS: Readonly<Record<string, readonly [must: readonly string[], may: readonly string[]]>> = {
  M: [["args"], ["tid"]],
  X: [["tid", "ts", "dur", "cat"], ["args"]],
  b: [["tid", "ts", "cat", "id", "args"], []],
  e: [["tid", "ts", "cat", "id", "args"], []],
  C: [["ts", "args"], []],
};

/** What is wrong with the events, in words. */
export function problems(events: readonly ChromeEvent[]): string[] {
  const found: string[] = [];
  const slices = new Map<string, number>();
  /** Async events: begun, and ended. */
  const state = new Map<string, "open" | "done">();
  for (const event of events) {
    const complain = (what: string) => found.push(`${what}: ${JSON.stringify(event)}`);
    for (const what of shape(event)) complain(what);
    const { ph, pid, tid, ts = 0, dur = 0, cat, id } = event;
    if (ph === "X") {
      const track = `${pid}/${tid}`;
      if (ts < (slices.get(track) ?? 0)) complain("overlaps the slice before");
      slices.set(track, ts + dur);
    }
    const key = `${pid}/${cat}/${id}`;
    if (ph === "b" && state.has(key)) complain("begins again");
    if (ph === "e" && state.get(key) !== "open") complain("ends what has not begun");
    if (ph === "b" || ph === "e") state.set(key, ph === "b" ? "open" : "done");
  }
  for (const [key, each] of state) if (each === "open") found.push(`${key} never ends`);
  return found;
}

/** What is wrong with one event alone. */
function shape(event: ChromeEvent): string[] {
  const { ph, name, pid, tid = 0, ts = 0, dur = 0, args = {} } = event;
  const fields = FIELDS[ph];
  if (fields === undefined) return ["an unknown phase"];
  const [must, may] = fields;
  const keys = Object.keys(event);
  const values = Object.values(args);
  return [
    ...[...COMMON, ...must].filter((key) => !keys.includes(key)).map((key) => `has no ${key}`),
    ...keys.filter((key) => ![...COMMON, ...must, ...may].includes(key)).map((key) => `${key} does not belong there`),
    ...(name === "" ? ["has no name"] : []),
    ...(Number.isInteger(pid) && Number.isInteger(tid) ? [] : ["pid or tid is no integer"]),
    ...(Number.isFinite(ts) && ts >= 0 && Number.isFinite(dur) && dur >= 0 ? [] : ["a time is no time"]),
    ...(ph === "C" && !values.every((value) => typeof value === "number") ? ["a counter is no number"] : []),
    ...(ph === "M" && !(["process_name", "thread_name"].includes(name) && typeof args.name === "string")
      ? ["is no known metadata"]
      : []),
  ];
}
