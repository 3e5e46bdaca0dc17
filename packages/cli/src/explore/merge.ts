/** Parts of a campaign put together: what is the same but for the shard is one. */
import { readFileSync } from "node:fs";
import { KNOWN_VARIANTS } from "@iommukit/core";
import { type Finding, parseSchedule } from "@iommukit/explore";
import { UsageError } from "../errors.js";
import { SCENARIOS } from "./scenarios/index.js";
import { backendsOf, type Task, type TaskResult } from "./task.js";

/** The output of `explore --json`. @throws UsageError */
export function readResults(file: string): readonly TaskResult[] {
  const refuse = (why: string) => new UsageError(`${file} is no output of explore --json: ${why}`);
  let parts: unknown;
  try {
    parts = JSON.parse(readFileSync(file, "utf8"));
    if (Array.isArray(parts) && parts.length > 0 && parts.every(isResult)) return parts;
  } catch (error) {
    throw refuse((error as Error).message);
  }
  throw refuse("results with a task of this version's scenarios, schedules and milliseconds are wanted");
}

function isResult(part: unknown): part is TaskResult {
  const { task, schedules, milliseconds, discovery } = (part ?? {}) as Partial<TaskResult>;
  const counted = typeof schedules === "number" && typeof milliseconds === "number";
  return counted && isTask(task) && (discovery === undefined || isDiscovery(discovery));
}

/** On a machine that is here: what was found is played again. */
function isTask({ scenario, backend, variants, search }: Partial<Task> = {}): boolean {
  const definition = SCENARIOS.find(({ name }) => name === scenario);
  if (!definition || !backendsOf(definition).some((name) => name === backend)) return false;
  const known = Array.isArray(variants) && variants.every((name) => Object.hasOwn(KNOWN_VARIANTS, String(name)));
  return known && ["exhaustive", "random"].includes(search?.kind ?? "");
}

function isDiscovery({ schedule, findings, shrunk }: NonNullable<Partial<TaskResult["discovery"]>>): boolean {
  if (typeof schedule !== "string" || typeof shrunk !== "number") return false;
  parseSchedule(schedule);
  return Array.isArray(findings) && findings.length > 0 && findings.every(isFinding);
}

function isFinding(finding: unknown): boolean {
  const { rule, what } = (finding ?? {}) as Partial<Finding>;
  return typeof rule === "string" && typeof what === "string";
}

/** Sums schedules and time; of several discoveries the shortest schedule stays. */
export function merged(parts: readonly (readonly TaskResult[])[]): readonly TaskResult[] {
  const whole = new Map<string, TaskResult>();
  for (const part of parts.flat()) {
    const { shard: _shard, ...same } = part.task;
    const key = JSON.stringify(same);
    const before = whole.get(key);
    whole.set(key, before ? together(before, part) : part);
  }
  return [...whole.values()];
}

function together(a: TaskResult, b: TaskResult): TaskResult {
  const discoveries = [a.discovery, b.discovery].flatMap((one) => (one ? [one] : []));
  const [discovery] = discoveries.sort((one, other) => one.shrunk - other.shrunk);
  return {
    ...a,
    schedules: a.schedules + b.schedules,
    milliseconds: a.milliseconds + b.milliseconds,
    complete: a.complete && b.complete,
    discovery,
  };
}
