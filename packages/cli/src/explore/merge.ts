/** Parts of a campaign put together: what is the same but for the shard is one. */
import { readFileSync } from "node:fs";
import { UsageError } from "../errors.js";
import type { TaskResult } from "./task.js";

/** The output of `explore --json`. @throws UsageError */
export function readResults(file: string): readonly TaskResult[] {
  let parts: unknown;
  try {
    parts = JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw new UsageError(`${file} is no output of explore --json: ${(error as Error).message}`);
  }
  if (!Array.isArray(parts) || parts.length === 0 || !parts.every(isResult))
    throw new UsageError(`${file} is no output of explore --json: results with a task and schedules are wanted`);
  return parts;
}

function isResult(part: unknown): part is TaskResult {
  const { task, schedules } = (part ?? {}) as Partial<TaskResult>;
  return typeof task?.scenario === "string" && typeof task.search === "object" && typeof schedules === "number";
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
