/** What a campaign says in the end: a line for each search, and what was found, step by step. */
import { findingLines, renderTimeline } from "@iommukit/explore";
import { show, type TaskResult } from "./task.js";

/** More machines than one scenario has are a campaign. */
const BACKENDS = 2;

/** Exit status 1 when a rule is broken. */
export async function report(results: readonly TaskResult[], json: boolean): Promise<void> {
  if (json) console.log(JSON.stringify(await withTimelines(results), wordsAsHex, 2));
  else {
    const rows = new Set(results.map(machineOf)).size > BACKENDS ? campaign(results) : results.map(summary);
    console.log(rows.join("\n"));
    for (const result of shortest(results)) await tell(result);
  }
  process.exitCode = results.some(({ discovery }) => discovery) ? 1 : 0;
}

/** For JSON: values of table words, which have 64 bits, and their addresses. */
export function wordsAsHex(key: string, value: unknown): unknown {
  if (typeof value === "bigint") return `0x${value.toString(16).padStart(16, "0")}`;
  return key === "address" && typeof value === "number" ? `0x${value.toString(16)}` : value;
}

async function withTimelines(results: readonly TaskResult[]): Promise<readonly TaskResult[]> {
  const best = new Set(shortest(results));
  const told: TaskResult[] = [];
  for (const result of results) {
    const schedule = best.has(result) ? result.discovery?.schedule : undefined;
    told.push(schedule === undefined ? result : { ...result, timeline: (await show(result.task, schedule)).timeline });
  }
  return told;
}

const machineOf = ({ task: { scenario, backend } }: TaskResult) => `${scenario} behind ${backend}`;

/** A whole campaign: a line for each machine, its searches summed up, and the sum of all. */
function campaign(results: readonly TaskResult[]): string[] {
  const machines = new Map<string, TaskResult[]>();
  for (const result of results) {
    const of = machines.get(machineOf(result)) ?? [];
    machines.set(machineOf(result), of);
    of.push(result);
  }
  const width = Math.max(...[...machines.keys()].map((name) => name.length));
  const rows = [...machines].map(([name, of]) => `${name.padEnd(width)}  ${sum(of)}`);
  return [...rows, `${machines.size} machines, ${sum(results)}`];
}

function sum(results: readonly TaskResult[]): string {
  const schedules = results.reduce((count, result) => count + result.schedules, 0);
  const seconds = results.reduce((time, { milliseconds }) => time + milliseconds, 0) / 1000;
  const broken = [...new Set(results.flatMap(({ discovery }) => discovery?.findings.map(({ rule }) => rule) ?? []))];
  const found = broken.length === 0 ? "nothing found" : `found: ${broken.join(", ")}`;
  return `${schedules.toLocaleString("en")} schedules, ${found}, ${seconds.toFixed(1)} s`;
}

function summary({ task, schedules, milliseconds, complete, discovery }: TaskResult): string {
  const { scenario, backend: on, search } = task;
  const how = search.kind === "exhaustive" ? `at most ${search.bound} switches` : `random, seed ${search.seed}`;
  const rate = milliseconds > 0 ? `, ${Math.round((schedules / milliseconds) * 1000)} a second and thread` : "";
  const every = complete && search.kind === "exhaustive" ? " (all)" : "";
  const outcome = discovery ? `found: ${discovery.findings[0].rule}` : "nothing found";
  return `${scenario} behind ${on}, ${how}: ${schedules} schedules${every}, ${outcome}${rate}`;
}

/** Of what several searches have found on one machine, the one with the fewest switches. */
function shortest(results: readonly TaskResult[]): readonly TaskResult[] {
  const best = new Map<string, TaskResult>();
  for (const result of results) {
    const { scenario, backend: on } = result.task;
    const key = `${scenario} ${on}`;
    const before = best.get(key)?.discovery?.shrunk ?? Number.POSITIVE_INFINITY;
    if (result.discovery && result.discovery.shrunk < before) best.set(key, result);
  }
  return [...best.values()];
}

/** What was found, how to see it again, and the run step by step. */
async function tell({ task, discovery }: TaskResult): Promise<void> {
  if (!discovery) return;
  const bugs = task.variants.map((one) => ` --variant ${one}`).join("");
  const again = `iommukit explore ${task.scenario} --backend ${task.backend}${bugs} --replay "${discovery.schedule}"`;
  console.log(["", ...findingLines(discovery.findings)].join("\n"));
  console.log(`  found with ${discovery.found} switches, shrunk to ${discovery.shrunk}; again with\n    ${again}\n`);
  console.log(renderTimeline((await show(task, discovery.schedule)).timeline));
}
