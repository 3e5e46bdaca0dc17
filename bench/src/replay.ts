/** `iommukit replay` of real traces, as its users start it: each in a process of its own, with everything still to be compiled. */
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

export interface ReplayRow {
  readonly trace: string;
  readonly backend: string;
  /** Maps and unmaps. */
  readonly events: number;
  /** Events a second: elapsed, and of CPU time of all threads, compiler and garbage collector included. */
  readonly elapsed: number;
  readonly cpu: number;
  readonly megabytes: number;
}

const PROGRAM = fileURLToPath(new URL("../../packages/cli/bin/iommukit.js", import.meta.url));
const TRACES = fileURLToPath(new URL("../../conformance/vectors/qi-trace/", import.meta.url));
const BACKENDS = [["smmuv3"], ["vtd"], ["smmuv3", "vtd"]] as const;
const TURNS = 5;
/** What `--timing` says. */
const TIMING = /^(\d+) events in \S+ s, (\d+) events\/s; CPU \S+ s, (\d+) events\/s; (\d+) MB$/;

function once(trace: string, backends: readonly string[]): Omit<ReplayRow, "trace" | "backend"> {
  const words = ["replay", "--json", "--timing", ...backends.flatMap((name) => ["--backend", name]), TRACES + trace];
  const { stderr } = spawnSync(process.execPath, [PROGRAM, ...words], { encoding: "utf8" });
  const said = TIMING.exec(stderr.trim());
  if (said === null) throw new Error(`iommukit ${words.join(" ")}: ${stderr}`);
  const [events, elapsed, cpu, megabytes] = said.slice(1).map(Number);
  return { events, elapsed, cpu, megabytes };
}

/** The best of several turns: others may use the machine as well. */
export function replay(): readonly ReplayRow[] {
  return readdirSync(TRACES).flatMap((trace) =>
    BACKENDS.map((backends) => {
      const turns = Array.from({ length: TURNS }, () => once(trace, backends));
      const best = (what: "elapsed" | "cpu") => Math.max(...turns.map((turn) => turn[what]));
      return {
        trace: trace.replace(/\.ftrace\.gz$/, ""),
        backend: backends.join(" and "),
        events: turns[0].events,
        elapsed: best("elapsed"),
        cpu: best("cpu"),
        megabytes: Math.max(...turns.map(({ megabytes }) => megabytes)),
      };
    }),
  );
}
