/** A part of a campaign as plain data, so that another thread or machine can do it. */
import {
  type Campaign,
  ExhaustiveSearch,
  explore,
  Laboratory,
  parseSchedule,
  RandomSearch,
  type RunResult,
  type Scenario,
  type Search,
  type Shard,
  type TimelineReport,
} from "@iommukit/explore";
import { UsageError } from "../errors.js";
import { BACKEND_NAMES, type BackendName } from "./backends.js";
import type { ScenarioDefinition } from "./kit.js";
import { SCENARIOS } from "./scenarios/index.js";

/** One machine under one search. */
export interface Task {
  readonly scenario: string;
  readonly backend: BackendName;
  readonly variants: readonly string[];
  readonly search: SearchOptions;
  readonly shard: Shard;
}

export type SearchOptions =
  | { readonly kind: "exhaustive"; readonly bound: number; readonly prune?: boolean }
  | { readonly kind: "random"; readonly seed: number; readonly runs: number };

export interface TaskResult extends Campaign {
  readonly task: Task;
  /** Elapsed. */
  readonly milliseconds: number;
  /** In the end, of what was found with the fewest switches. */
  readonly timeline?: TimelineReport;
}

/** @throws UsageError for a name that is none */
export function scenarioNamed(name: string): ScenarioDefinition {
  const found = SCENARIOS.find((scenario) => scenario.name === name);
  if (!found) throw new UsageError(`no scenario "${name}"; there are ${SCENARIOS.map((one) => one.name).join(", ")}`);
  return found;
}

export function backendsOf({ backends }: ScenarioDefinition): readonly BackendName[] {
  return backends ?? BACKEND_NAMES;
}

function scenarioOf({ scenario, backend }: Pick<Task, "scenario" | "backend">): Scenario {
  const definition = scenarioNamed(scenario);
  return { name: `${scenario} ${backend}`, summary: definition.summary, ...definition.make(backend) };
}

function searchOf({ search, shard }: Task): Search {
  return search.kind === "exhaustive"
    ? new ExhaustiveSearch(search.bound, shard, search.prune)
    : new RandomSearch(search.seed, search.runs, shard);
}

export async function perform(task: Task): Promise<TaskResult> {
  const start = performance.now();
  const campaign = await explore(scenarioOf(task), searchOf(task), { variants: task.variants });
  return { task, ...campaign, milliseconds: Math.round(performance.now() - start) };
}

/** One schedule on a new machine, with what happened. */
export function show(
  task: Pick<Task, "scenario" | "backend" | "variants">,
  schedule: string,
): Promise<{ readonly result: RunResult; readonly timeline: TimelineReport }> {
  return new Laboratory(scenarioOf(task), task.variants).show(parseSchedule(schedule));
}
