/** `iommukit compare`: one process behind several IOMMUs, side by side. */
import { closeSync, openSync, writeSync } from "node:fs";
import { isErrno, type TraceRecord, traceLine } from "@iommukit/core";
import { Command, InvalidArgumentError, Option } from "commander";
import { BACKENDS } from "../compare/backends.js";
import { compare } from "../compare/compare.js";
import { LiveSource } from "../compare/live-subject.js";
import { renderJson, renderMarkdown, renderText } from "../compare/render.js";
import { SimulatedSource } from "../compare/simulated-subject.js";
import type { SubjectSource } from "../compare/subject.js";
import { UsageError } from "../errors.js";
import { withExamples } from "../manners/examples.js";
import { integer } from "./values.js";

interface Options {
  readonly pid?: number;
  readonly simulated?: boolean;
  readonly backends: readonly string[];
  readonly mib: number;
  readonly seed: number;
  readonly trace?: string;
  readonly format: string;
  readonly json?: boolean;
}

const FORMATS = { text: renderText, md: renderMarkdown, json: renderJson } as const;

function names(text: string): string[] {
  const chosen = text.split(",");
  const unknown = chosen.find((name) => !Object.hasOwn(BACKENDS, name));
  if (unknown !== undefined || new Set(chosen).size !== chosen.length) {
    throw new InvalidArgumentError(`each of ${Object.keys(BACKENDS).join(", ")} at most once is wanted.`);
  }
  return chosen;
}

export function compareCommand(): Command {
  const command = new Command("compare")
    .description("bind a process to a device behind each IOMMU, do the same work, show both side by side")
    .option("--pid <n>", "bind this running process instead of a child of our own", integer(1, 4_194_304))
    .option("--simulated", "bind a simulated process: the same everywhere, for every seed")
    .option("--backends <names>", "comma-separated", names, Object.keys(BACKENDS))
    .option("--mib <n>", "MiB to read from the process's mapped file", integer(1, 1024), 16)
    .option("--seed <n>", "seed of the simulated process", integer(0, 0x7fff_ffff), 1)
    .option("--trace <file>", "write every event as a line of JSON")
    .addOption(new Option("--format <name>", "how to write it").choices(Object.keys(FORMATS)).default("text"))
    .option("--json", "the same as --format json")
    .action(run);
  return withExamples(command, [
    ["iommukit compare", "a child process of its own, behind every IOMMU"],
    ["iommukit compare --pid 4711 --backends vtd", "a running process, which lives on"],
    ["iommukit compare --simulated --format md", "the same everywhere, as a Markdown table"],
  ]);
}

async function run(options: Options): Promise<void> {
  const source = await sourceOf(options);
  const trace = options.trace === undefined ? undefined : openTrace(options.trace);
  const comparison = await compare(source, {
    backends: options.backends,
    bytes: options.mib * 2 ** 20,
    seed: options.seed,
    progress: process.stderr.isTTY ? (line) => process.stderr.write(`\r\u001b[K${line}`) : undefined,
    onTrace: trace && ((backend, record) => trace.write(backend, record)),
  }).finally(() => trace?.close());
  if (process.stderr.isTTY) process.stderr.write("\r\u001b[K");
  const render = FORMATS[options.json ? "json" : (options.format as keyof typeof FORMATS)];
  process.stdout.write(`${render(comparison)}\n`);
  if (comparison.backends.some(({ verified, leaks }) => !verified || leaks.length > 0)) process.exitCode = 1;
}

async function sourceOf({ pid, simulated, backends, seed }: Options): Promise<SubjectSource> {
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
    return pid === undefined ? await LiveSource.child(backends.length) : LiveSource.process(pid);
  } catch (error) {
    if (isErrno(error)) throw new UsageError(error.message, { cause: error });
    throw error;
  }
}

function openTrace(path: string): { write(backend: string, record: TraceRecord): void; close(): void } {
  let fd: number;
  try {
    fd = openSync(path, "w");
  } catch (error) {
    throw new UsageError(`cannot write ${path}: ${(error as Error).message}`, { cause: error });
  }
  let lines: string[] = [];
  const flush = () => {
    if (lines.length > 0) writeSync(fd, `${lines.join("\n")}\n`);
    lines = [];
  };
  return {
    write(backend, record) {
      lines.push(`{"backend":"${backend}",${traceLine(record).slice(1)}`);
      if (lines.length >= 4096) flush();
    },
    close() {
      flush();
      closeSync(fd);
    },
  };
}
