/** `iommukit explore`: interleavings of exit, unbind, fault, invalidation and reset, searched and replayed. */
import { availableParallelism } from "node:os";
import { KNOWN_VARIANTS } from "@iommukit/core";
import { findingLines, parseSchedule, type RunResult, renderTimeline, type Shard } from "@iommukit/explore";
import { Command, InvalidArgumentError, Option } from "commander";
import { UsageError } from "../errors.js";
import { BACKEND_NAMES, type BackendName } from "../explore/backends.js";
import { merged, readResults } from "../explore/merge.js";
import { performAll } from "../explore/pool.js";
import { report, wordsAsHex } from "../explore/report.js";
import { SCENARIOS } from "../explore/scenarios/index.js";
import { backendsOf, type SearchOptions, scenarioNamed, show, type Task, type TaskResult } from "../explore/task.js";
import { type Row, type RowResult, rowResult, zooMarkdown, zooRows } from "../explore/zoo.js";
import { withExamples } from "../manners/examples.js";
import { integer } from "./values.js";

interface Options {
  readonly list?: boolean;
  readonly all?: boolean;
  readonly shipped?: boolean;
  readonly variant: readonly string[];
  readonly backend?: BackendName;
  readonly bound: number;
  readonly prune?: boolean;
  readonly runs: number;
  readonly seed: number;
  readonly shard: Shard;
  readonly threads: number;
  readonly replay?: string;
  readonly merge?: readonly string[];
  readonly json?: boolean;
}

/** What else can be done than a search in one scenario, and the options that each takes. */
const WAYS: Readonly<Partial<Record<keyof Options, readonly (keyof Options)[]>>> = {
  list: ["json"],
  merge: ["json"],
  shipped: ["backend", "runs", "seed", "shard", "threads", "json"],
  all: ["backend", "bound", "prune", "runs", "seed", "threads", "json"],
  replay: ["variant", "backend", "json"],
};
/** Far beyond what anybody waits for. */
const MOST_DIFFERENCES = 64;
const MOST_RUNS = 2 ** 40;
const MOST_THREADS = 1024;

function shard(text: string): Shard {
  const [, index, of] = /^(\d+)\/(\d+)$/.exec(text) ?? [];
  if (index === undefined || Number(index) < 1 || Number(index) > Number(of))
    throw new InvalidArgumentError("i/n with 1 <= i <= n is wanted.");
  return { index: Number(index), of: Number(of) };
}

function variant(name: string, before: readonly string[]): readonly string[] {
  if (!Object.hasOwn(KNOWN_VARIANTS, name))
    throw new InvalidArgumentError(`one of ${Object.keys(KNOWN_VARIANTS).join(", ")} is wanted.`);
  return [...before, name];
}

function backend(name: string): string {
  if (!BACKEND_NAMES.includes(name as BackendName))
    throw new InvalidArgumentError(`one of ${BACKEND_NAMES.join(", ")} is wanted.`);
  return name;
}

function schedule(text: string): string {
  try {
    parseSchedule(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
  return text;
}

export function exploreCommand(): Command {
  const command = new Command("explore")
    .description("search the interleavings of a scenario for broken rules, and replay what is found")
    .argument("[scenario]")
    .option("--list", "the scenarios, and the known bugs that each finds")
    .option("--all", "each known bug is found with its variant on, nothing with all of them off")
    .option("--shipped", "every scenario with no bug switched on, --runs random schedules in all: nothing may be found")
    .addOption(
      new Option("--variant <name>", "switch a known bug on (S-2, L-13, …); may be repeated")
        .argParser(variant)
        .default([], "none"),
    )
    .option("--backend <name>", "behind this IOMMU only", backend)
    .option(
      "--bound <n>",
      "try every schedule with at most n choices that differ from the default",
      integer(0, MOST_DIFFERENCES),
      2,
    )
    .option("--prune", "leave out those that only exchange steps which have nothing to do with each other")
    .option("--runs <n>", "then so many random schedules", integer(0, MOST_RUNS), 2000)
    .option("--seed <n>", "of the random schedules", integer(0, Number.MAX_SAFE_INTEGER), 1)
    .addOption(
      new Option("--shard <i/n>", "do the i-th of n parts of the campaign")
        .argParser(shard)
        .default({ index: 1, of: 1 }, "1/1"),
    )
    .addOption(
      new Option("--threads <n>", "worker threads")
        .argParser(integer(1, MOST_THREADS))
        .default(availableParallelism(), "one for each processor"),
    )
    .option("--replay <schedule>", "one schedule, step by step", schedule)
    .option("--merge <file...>", "put the --json output of shards together")
    .option("--json", "machine-readable")
    .action(run);
  return withExamples(command, [
    ["iommukit explore --list", "what there is to explore"],
    ["iommukit explore --all", "every known bug is found, and nothing without them"],
    ["iommukit explore exit-detach --variant S-2", "one scenario with one bug"],
    ["iommukit explore --shipped --runs 1000000 --shard 1/4 --json", "a quarter of a campaign, for --merge"],
  ]);
}

/**
 * @param given options that stand in the command line
 * @throws UsageError for words that have nothing to do with each other
 */
function checkTogether(name: string | undefined, given: readonly (keyof Options)[]): void {
  const way = given.find((key) => WAYS[key] !== undefined);
  if (way === undefined) return;
  const option = given.find((key) => key !== way && !WAYS[way]?.includes(key));
  const scenario = name === undefined || way === "replay" ? undefined : `scenario ${JSON.stringify(name)}`;
  const alien = option === undefined ? scenario : `--${option}`;
  if (alien !== undefined) throw new UsageError(`--${way} and ${alien} exclude each other`);
}

async function run(name: string | undefined, options: Options, command: Command): Promise<void> {
  const keys = Object.keys(WAYS).concat(Object.keys(options)) as (keyof Options)[];
  checkTogether(
    name,
    [...new Set(keys)].filter((key) => command.getOptionValueSource(key) === "cli"),
  );
  if (options.list) return list(options);
  if (options.merge) return report(merged(options.merge.map(readResults)), options.json === true);
  if (options.shipped) return shipped(options);
  if (options.all) return all(options);
  if (name === undefined) throw new UsageError("a scenario is wanted, or --all; --list names them");
  const definition = scenarioNamed(name);
  const backends = options.backend ? [options.backend] : backendsOf(definition);
  if (options.replay !== undefined) return replay(name, backends[0], options);
  const tasks = backends.flatMap((one) => searches(options).flatMap((search) => parts(name, one, search, options)));
  await report(merged([await performAll(tasks, options.threads)]), options.json === true);
}

function list({ json }: Options): void {
  if (json) {
    const rows = SCENARIOS.map(({ name, summary, finds, ...rest }) => ({
      name,
      summary,
      finds: Object.keys(finds),
      backends: backendsOf({ name, summary, finds, ...rest }),
    }));
    console.log(JSON.stringify(rows, null, 2));
    return;
  }
  const width = Math.max(...SCENARIOS.map(({ name }) => name.length));
  for (const { name, summary, finds } of SCENARIOS) {
    const bugs = Object.keys(finds);
    console.log(`${name.padEnd(width)}  ${summary}${bugs.length > 0 ? ` (finds ${bugs.join(", ")})` : ""}`);
  }
}

function searches({ bound, prune, seed, runs }: Options): readonly SearchOptions[] {
  return [{ kind: "exhaustive", bound, prune } as const, { kind: "random", seed, runs } as const];
}

/** The shard that was asked for, cut once more for the threads. */
function parts(scenario: string, on: BackendName, search: SearchOptions, options: Options): readonly Task[] {
  const { index, of } = options.shard;
  const { threads, variant: variants } = options;
  return Array.from({ length: threads }, (_, thread) => ({
    scenario,
    backend: on,
    variants,
    search,
    shard: { index: (index - 1) * threads + thread + 1, of: of * threads },
  }));
}

async function replay(
  scenario: string,
  on: BackendName,
  { replay: text = "", variant: variants, json }: Options,
): Promise<void> {
  const { result, timeline } = await show({ scenario, backend: on, variants }, text);
  if (result.findings.length === 0) checkFits(text, result);
  if (json)
    console.log(
      JSON.stringify({ scenario, backend: on, variants, schedule: text, ...result, timeline }, wordsAsHex, 2),
    );
  else {
    console.log(renderTimeline(timeline));
    console.log(result.findings.length === 0 ? "\nnothing is wrong" : `\n${findingLines(result.findings).join("\n")}`);
  }
  process.exitCode = result.findings.length > 0 ? 1 : 0;
}

/** @throws UsageError a choice of the schedule was not there: it belongs to another machine, and its run says nothing */
function checkFits(text: string, { taken, counts }: RunResult): void {
  for (const [at, possibility] of parseSchedule(text)) {
    if (taken[at] === possibility) continue;
    const there =
      at < counts.length ? `choice ${at} has ${counts[at]} possibilities` : `the run has ${counts.length} choices`;
    throw new UsageError(`schedule "${text}": there is no ${at}:${possibility}, ${there}`);
  }
}

/** The runs are shared out evenly over all machines. */
async function shipped(options: Options): Promise<void> {
  const machines = SCENARIOS.flatMap((scenario) => backendsOf(scenario).map((on) => ({ scenario: scenario.name, on })));
  const wanted = machines.filter(({ on }) => options.backend === undefined || on === options.backend);
  const runs = Math.ceil(options.runs / wanted.length);
  const search = { kind: "random", seed: options.seed, runs } as const;
  const tasks = wanted.flatMap(({ scenario, on }) => parts(scenario, on, search, options));
  await report(merged([await performAll(tasks, options.threads)]), options.json === true);
}

async function all(options: Options): Promise<void> {
  const wanted = (row: Row) => options.backend === undefined || row.tasks[0].backend === options.backend;
  const rows = zooRows(searches(options)).filter(wanted);
  const results: RowResult[] = [];
  // One search after the other, each for all rows that have found nothing yet, so that the threads have work.
  const done = rows.map(() => [] as TaskResult[]);
  for (let step = 0; step < searches(options).length; step++) {
    const open = rows.map((_, at) => at).filter((at) => !done[at].some(({ discovery }) => discovery));
    const answers = await performAll(
      open.map((at) => rows[at].tasks[step]),
      options.threads,
    );
    for (const [i, at] of open.entries()) done[at].push(answers[i]);
  }
  for (const [at, row] of rows.entries()) results.push(rowResult(row, done[at]));
  console.log(options.json ? JSON.stringify(results, null, 2) : zooMarkdown(results));
  const wrong = results.filter(({ right }) => !right);
  for (const { variant: bug, scenario, backend: on, found } of wrong)
    process.stderr.write(
      `iommukit: ${scenario} behind ${on}: ${bug === undefined ? `found ${found}` : `${bug} was not found`}\n`,
    );
  process.exitCode = wrong.length > 0 ? 1 : 0;
}
