/**
 * A replay as a trace for Perfetto's UI: Chrome's JSON trace format, array form, as in "Trace Event Format" (Google, 2016) and
 * perfetto.dev/docs/getting-started/other-formats. Written piece by piece; nothing but live mappings is kept.
 *
 * Phases are complete slices (X) that follow one another on one thread. Mappings overlap, which slices on one track must not:
 * each is a pair of async events (b, e) with an id of its own. Table memory and invalidations are counters (C).
 */
import { sum } from "./counts.js";
import type { ReplayMachine, Step } from "./machine.js";
import type { ReplayWatcher } from "./replay.js";
import type { Spaces } from "./spaces.js";
import type { TraceEvent } from "./trace-line.js";

/** Of the process that holds the phases; those of address spaces follow it. */
const TRACE_PID = 1;
const PHASE_TID = 1;
const MACHINE_PID = 1_000_000;
const CATEGORY = "iommu";

interface Live {
  readonly id: string;
  readonly pages: number;
}

export class PerfettoWriter implements ReplayWatcher {
  #first = true;
  #next = 1;
  #now = 0;
  #phase: { readonly name: string; readonly since: number } | undefined;
  /** Live mappings of each address space, by first page. */
  readonly #live: Map<number, Live>[] = [];
  readonly #named = new Map<number, string>();

  /** @param write takes the text, in order */
  constructor(private readonly write: (text: string) => void) {
    this.#event({ ph: "M", name: "process_name", pid: TRACE_PID, args: { name: "trace" } });
    this.#event({ ph: "M", name: "thread_name", pid: TRACE_PID, tid: PHASE_TID, args: { name: "phases" } });
  }

  piece(steps: readonly Step[], machines: readonly ReplayMachine[], spaces: Spaces): void {
    for (const step of steps) {
      if ("phase" in step) this.#enter(step.phase, step.time);
      else if (step.space !== undefined) this.#mapping(step.event, step.space);
    }
    this.#name(spaces);
    for (const [n, machine] of machines.entries()) this.#counters(machine, MACHINE_PID + n);
  }

  /** Ends what is open, and the file. */
  close(): void {
    this.#endPhase();
    for (const [space, live] of this.#live.entries()) {
      for (const { id } of live?.values() ?? []) this.#async("e", id, this.#now, space, { unmapped: false });
    }
    this.write("\n]\n");
  }

  #enter(name: string, time: number): void {
    this.#now = time;
    this.#endPhase();
    this.#phase = { name, since: time };
  }

  #endPhase(): void {
    if (this.#phase === undefined) return;
    const { name, since } = this.#phase;
    const dur = microseconds(Math.max(this.#now - since, 0));
    this.#event({
      ph: "X",
      name,
      cat: "phase",
      pid: TRACE_PID,
      tid: PHASE_TID,
      ts: microseconds(since),
      dur,
    });
  }

  #mapping(event: TraceEvent, space: number): void {
    this.#now = event.time;
    this.#live[space] ??= new Map();
    const live = this.#live[space];
    if (event.kind === "map") {
      const id = `0x${(this.#next++).toString(16)}`;
      live.set(event.page, { id, pages: event.pages });
      const args = { iova: hex(event.iova), paddr: hex(event.paddr), bytes: event.size };
      this.#async("b", id, event.time, space, args);
      return;
    }
    for (const [page, { id, pages }] of ended(live, event)) {
      live.delete(page);
      this.#async("e", id, event.time, space, {});
      if (page + pages > event.page + event.pages || page < event.page) this.#split(live, page, pages, event, space);
    }
  }

  /** An unmap took a part: what is left on either side goes on as mappings of their own. */
  #split(live: Map<number, Live>, page: number, pages: number, event: TraceEvent, space: number): void {
    const end = event.page + event.pages;
    for (const [from, to] of [
      [page, event.page],
      [end, page + pages],
    ]) {
      if (from >= to) continue;
      const id = `0x${(this.#next++).toString(16)}`;
      live.set(from, { id, pages: to - from });
      this.#async("b", id, event.time, space, { iova: hex(from * 4096), bytes: (to - from) * 4096 });
    }
  }

  #async(ph: "b" | "e", id: string, time: number, space: number, args: object): void {
    this.#event({
      ph,
      id,
      name: "mapping",
      cat: CATEGORY,
      pid: TRACE_PID + 1 + space,
      tid: 0,
      ts: microseconds(time),
      args,
    });
  }

  /** The name of an address space's process, once and when it becomes known. */
  #name(spaces: Spaces): void {
    for (let space = 0; space < spaces.count; space++) {
      const name = spaces.device(space) ?? `address space ${space}`;
      if (this.#named.get(space) === name) continue;
      this.#named.set(space, name);
      this.#event({ ph: "M", name: "process_name", pid: TRACE_PID + 1 + space, args: { name } });
    }
  }

  #counters(machine: ReplayMachine, pid: number): void {
    const { label } = machine.configuration;
    if (!this.#named.has(pid)) {
      this.#named.set(pid, label);
      this.#event({ ph: "M", name: "process_name", pid, args: { name: label } });
    }
    const ts = microseconds(this.#now);
    this.#event({ ph: "C", name: "translation tables", pid, ts, args: { KiB: machine.tables * 4 } });
    this.#event({ ph: "C", name: "commands", pid, ts, args: { consumed: sum(machine.commands) } });
  }

  #event(event: object): void {
    this.write(`${this.#first ? "[" : ","}\n${JSON.stringify(event)}`);
    this.#first = false;
  }
}

/** Mappings that an unmap ends: the one that starts there, as a rule. */
function ended(live: ReadonlyMap<number, Live>, { page, pages }: TraceEvent): [number, Live][] {
  const exact = live.get(page);
  if (exact?.pages === pages) return [[page, exact]];
  return [...live].filter(([from, mapping]) => from < page + pages && page < from + mapping.pages);
}

function hex(address: number | bigint): string {
  return `0x${address.toString(16)}`;
}

/** Exact: three digits behind the point. */
function microseconds(nanoseconds: number): number {
  return nanoseconds / 1000;
}
