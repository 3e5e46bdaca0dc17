/** `iommukit compare`: one process behind several IOMMUs, side by side. */
import { isErrno, traceLine } from "@iommukit/core";
import { Command, Option } from "commander";
import { BACKEND_HELP, BACKEND_NAMES, type Backend, collectBackends, parseBackend } from "../backends.js";
import { chartOf } from "../compare/chart.js";
import { type CompareOptions, type Comparison, compare, compareWorkload } from "../compare/compare.js";
import { hasEnded, LiveSource } from "../compare/live-subject.js";
import { PARAMETERS, parseSweep } from "../compare/parameters.js";
import { pointsOf } from "../compare/points.js";
import { renderJson, renderMarkdown, renderNdjson, renderText } from "../compare/render.js";
import { SimulatedSource } from "../compare/simulated-subject.js";
import type { SubjectSource } from "../compare/subject.js";
import type { NamedWorkload } from "../compare/workloads/named-workload.js";
import { WORKLOADS } from "../compare/workloads/workloads.js";
import { UsageError } from "../errors.js";
import { withExamples } from "../manners/examples.js";
import { svgOf } from "../manners/svg.js";
import { TextFile } from "../manners/text-file.js";
import { collect, integer } from "./values.js";

interface Options {
  readonly workload?: string;
  readonly pid?: number;
  readonly simulated?: boolean;
  readonly backend?: readonly Backend[];
  readonly sweep: readonly string[];
  readonly mib?: number;
  readonly seed: number;
  readonly trace?: string;
  readonly format: keyof typeof FORMATS;
  readonly json?: boolean;
  readonly ndjson?: boolean;
}

type Render = (comparison: Comparison) => string | Promise<string>;

const FORMATS: Readonly<Record<string, Render>> = {
  text: renderText,
  md: renderMarkdown,
  json: renderJson,
  ndjson: renderNdjson,
  svg: (comparison) => svgOf(chartOf(comparison)),
};

/** What runs when no workload is named, on a process that exists anyway. */
const MIXED = { name: "mixed", shares: true, mib: 16 } as const;

export function compareCommand(): Command {
  const command = new Command("compare")
    .description("do the same work behind several IOMMUs, verify it byte for byte, show what each did side by side")
    .addOption(
      new Option("--workload <name>", "which work; without it a child process is bound and read, written and chased in")
        .choices(WORKLOADS.map(({ name }) => name))
        .conflicts(["pid", "simulated"]),
    )
    .option("--pid <n>", "bind this running process instead of a child of our own", integer(1, 4_194_304))
    .option("--simulated", "bind a simulated process: the same everywhere, for every seed")
    .option("--backend <name[:preset]>", `one of ${BACKEND_HELP}; may be repeated (default: each)`, collectBackends)
    .addOption(
      new Option("--sweep <name=values>", "each of these values of a parameter (below); may be repeated")
        .argParser(collect)
        .default([], "none"),
    )
    .option("--mib <n>", "MiB to work on (default: what the workload has)", integer(1, 1024))
    .option("--seed <n>", "of the simulated processes and of what is in memory", integer(0, 0x7fff_ffff), 1)
    .option("--trace <file>", "write every event as a line of JSON")
    .addOption(new Option("--format <name>", "how to write it").choices(Object.keys(FORMATS)).default("text"))
    .addOption(new Option("--json", "the same as --format json").conflicts(["format", "ndjson"]))
    .addOption(new Option("--ndjson", "the same as --format ndjson: one backend a line").conflicts("format"))
    .addHelpText("after", `\nWorkloads:\n${listed(WORKLOADS.map(({ name, says }) => [name, says]))}`)
    .addHelpText(
      "after",
      `\nParameters of --sweep:\n${listed(PARAMETERS.map(({ name, says, wants }) => [name, `${says}; ${wants}`]))}`,
    )
    .action(run);
  return withExamples(command, [
    ["iommukit compare", "a child process of its own, behind every IOMMU"],
    ["iommukit compare --pid 4711 --backend vtd", "a running process, which lives on"],
    ["iommukit compare --workload fault-storm --backend smmuv3 --backend vtd:everything", "a named workload"],
    ["iommukit compare --workload random --sweep tlb=64,256,1024 --format svg > tlb.svg", "a plot over TLB sizes"],
  ]);
}

function listed(entries: readonly (readonly [name: string, says: string])[]): string {
  return entries.map(([name, says]) => `  ${name}: ${says}`).join("\n");
}

async function run(options: Options): Promise<void> {
  const { seed, mib, format } = options;
  const workload = WORKLOADS.find(({ name }) => name === options.workload);
  const points = pointsOf(
    options.backend ?? BACKEND_NAMES.map(parseBackend),
    options.sweep.map(parseSweep),
    workload ?? MIXED,
  );
  const source = workload === undefined ? await sourceOf(options, points.length) : undefined;
  const trace = options.trace === undefined ? undefined : new TextFile(options.trace);
  const settings: CompareOptions = {
    points,
    bytes: (mib ?? (workload ?? MIXED).mib) * 2 ** 20,
    seed,
    progress: process.stderr.isTTY ? (line) => process.stderr.write(`\r\u001b[K${line}`) : undefined,
    onTrace: trace && ((backend, record) => trace.write(`{"backend":"${backend}",${traceLine(record).slice(1)}\n`)),
  };
  const comparison = await (source === undefined
    ? compareWorkload(workload as NamedWorkload, settings)
    : compareLasting(source, settings, options.pid)
  ).finally(() => trace?.close());
  if (process.stderr.isTTY) process.stderr.write("\r\u001b[K");
  const render = FORMATS[options.json ? "json" : options.ndjson ? "ndjson" : format];
  process.stdout.write(`${await render(comparison)}\n`);
  if (comparison.backends.some(({ verified, leaks }) => !verified || leaks.length > 0)) process.exitCode = 1;
}

/** @throws UsageError the user's process ended meanwhile, so that nothing can be said */
async function compareLasting(
  source: SubjectSource,
  settings: CompareOptions,
  pid: number | undefined,
): Promise<Comparison> {
  const ended = () => pid !== undefined && hasEnded(pid);
  try {
    const comparison = await compare(source, settings);
    if (comparison.backends.every(({ verified }) => verified) || !ended()) return comparison;
  } catch (error) {
    if (!ended()) throw error;
  }
  throw new UsageError(`process ${pid} ended meanwhile`);
}

async function sourceOf({ pid, simulated, seed }: Options, machines: number): Promise<SubjectSource> {
  if (pid !== undefined && simulated) throw new UsageError("--pid and --simulated exclude each other");
  if (simulated) return new SimulatedSource(seed);
  if (process.platform !== "linux") {
    if (pid !== undefined) throw new UsageError(`--pid needs Linux's /proc; this is ${process.platform}`);
    process.stderr.write(
      `iommukit: live processes need Linux; this is ${process.platform}: the process is simulated\n`,
    );
    return new SimulatedSource(seed);
  }
  try {
    return pid === undefined ? await LiveSource.child(machines) : LiveSource.process(pid);
  } catch (error) {
    if (isErrno(error)) throw new UsageError(error.message, { cause: error });
    throw error;
  }
}
