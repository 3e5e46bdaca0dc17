/** Everything once: each known bug is found with its variant on, and nothing is found with all of them off. */
import { SCENARIOS } from "./scenarios/index.js";
import { backendsOf, type SearchOptions, type Task, type TaskResult } from "./task.js";

/** Tasks of one row are done one after the other until something is found. */
export interface Row {
  /** A variant, or none: then nothing may be found. */
  readonly variant: string | undefined;
  readonly tasks: readonly Task[];
}

export interface RowResult {
  readonly variant: string | undefined;
  readonly scenario: string;
  readonly backend: string;
  readonly schedules: number;
  readonly milliseconds: number;
  readonly found: string | undefined;
  readonly rule: string | undefined;
  readonly schedule: string | undefined;
  /** Differences from the default schedule, shrunk. */
  readonly length: number | undefined;
  /** As it should be. */
  readonly right: boolean;
}

const WHOLE = { index: 1, of: 1 };

export function zooRows(searches: readonly SearchOptions[]): readonly Row[] {
  const rows: Row[] = [];
  for (const scenario of SCENARIOS) {
    const task = (backend: Task["backend"], variants: readonly string[], search: SearchOptions): Task => ({
      scenario: scenario.name,
      backend,
      variants,
      search,
      shard: WHOLE,
    });
    for (const [variant, backends] of Object.entries(scenario.finds)) {
      for (const backend of backends ?? backendsOf(scenario))
        rows.push({ variant, tasks: searches.map((search) => task(backend, variant.split("+"), search)) });
    }
    for (const backend of backendsOf(scenario))
      rows.push({ variant: undefined, tasks: searches.map((search) => task(backend, [], search)) });
  }
  return rows;
}

export function rowResult({ variant, tasks }: Row, results: readonly TaskResult[]): RowResult {
  const { scenario, backend } = tasks[0];
  const discovery = results.find((result) => result.discovery)?.discovery;
  const [finding] = discovery?.findings ?? [];
  return {
    variant,
    scenario,
    backend,
    schedules: results.reduce((sum, { schedules }) => sum + schedules, 0),
    milliseconds: results.reduce((sum, { milliseconds }) => sum + milliseconds, 0),
    found: finding?.what,
    rule: finding?.rule,
    schedule: discovery?.schedule,
    length: discovery?.shrunk,
    right: (variant !== undefined) === (finding !== undefined),
  };
}

/** The table of the documentation. */
export function zooMarkdown(rows: readonly RowResult[]): string {
  const cells = rows.map((row) => [
    row.variant ?? "none",
    row.scenario,
    row.backend,
    row.rule ?? "nothing",
    String(row.schedules),
    row.length === undefined ? "" : String(row.length),
    row.schedule === undefined ? "" : `\`${row.schedule || '""'}\``,
    `${(row.milliseconds / 1000).toFixed(1)} s`,
  ]);
  return [
    "| bug | scenario | behind | rule | schedules | switches | schedule | time |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ...cells.map((row) => `| ${row.join(" | ")} |`),
  ].join("\n");
}
