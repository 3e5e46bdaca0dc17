/** `iommukit replay`: the maps and unmaps of a recorded trace, done again by each backend's driver. */
import { Command, InvalidArgumentError, Option } from "commander";
import { BACKEND_HELP, BACKEND_NAMES, type Backend, collectBackends, parseBackend } from "../backends.js";
import { UsageError } from "../errors.js";
import { readPieces } from "../explain/read-lines.js";
import { withExamples } from "../manners/examples.js";
import { TextFile } from "../manners/text-file.js";
import { ACCESS_PATTERNS, type AccessName } from "../replay/access-pattern.js";
import { configurations, type Mode, type Pages } from "../replay/configuration.js";
import { PerfettoWriter } from "../replay/perfetto.js";
import { replayJson, replayMarkdown, replayText } from "../replay/render.js";
import { Replayer } from "../replay/replay.js";
import type { Replay } from "../replay/report.js";
import { replaySvg } from "../replay/svg.js";
import { Timing } from "../replay/timing.js";
import { integer } from "./values.js";

interface Options {
  readonly backend?: readonly Backend[];
  readonly strict?: boolean;
  readonly lazy?: boolean;
  readonly pages: readonly Pages[];
  readonly access?: AccessName;
  readonly seed?: number;
  readonly perfetto?: string;
  readonly format: keyof typeof FORMATS;
  readonly json?: boolean;
  readonly timing?: boolean;
}

const FORMATS: Readonly<Record<string, (replay: Replay) => string | Promise<string>>> = {
  text: replayText,
  md: replayMarkdown,
  json: replayJson,
  svg: replaySvg,
};

const PAGES: readonly string[] = ["huge", "4k"];

function pages(text: string): readonly Pages[] {
  const chosen = text.split(",");
  if (chosen.some((each) => !PAGES.includes(each)) || new Set(chosen).size < chosen.length)
    throw new InvalidArgumentError(`${PAGES.join(", ")} or both with a comma is wanted.`);
  return chosen as Pages[];
}

export function replayCommand(): Command {
  const command = new Command("replay")
    .description(
      "do the maps and unmaps of an ftrace text (iommu:map, iommu:unmap) behind each backend and count what they cost",
    )
    .argument("[file...]", "ftrace or trace-cmd report text, also as .gz; - or nothing reads standard input")
    .option("--backend <name[:preset]>", `one of ${BACKEND_HELP}; may be repeated (default: each)`, collectBackends)
    .option("--strict", "invalidate at every unmap (the default); with --lazy: both, side by side")
    .option("--lazy", "iommu.strict=0: unmaps wait for a common invalidation")
    .addOption(
      new Option("--pages <list>", "largest pages that fit (huge), smallest only (4k), or both: huge,4k")
        .argParser(pages)
        .default(["huge"], "huge"),
    )
    .addOption(
      new Option("--access <pattern>", "what devices are assumed to read, to say something about caches").choices(
        Object.keys(ACCESS_PATTERNS),
      ),
    )
    .option("--seed <n>", "of --access random (default: 1)", integer(0, 0xffff_ffff))
    .option("--perfetto <file>", "also write mappings, phases and counters for ui.perfetto.dev there (Chrome JSON)")
    .addOption(new Option("--format <name>", "how to write it").choices(Object.keys(FORMATS)).default("text"))
    .addOption(new Option("--json", "the same as --format json").conflicts("format"))
    .option(
      "--timing",
      "say on standard error how long it took, in all and in each backend, events per second, and how much memory",
    )
    .action(run);
  return withExamples(command, [
    ["iommukit replay trace.txt.gz", "what the trace costs behind each IOMMU"],
    ["trace-cmd report | iommukit replay --lazy --format md", "with deferred invalidation, as a Markdown table"],
    ["iommukit replay --strict --lazy --access ring trace.txt", "both ways side by side, with IOTLB hits of a ring"],
  ]);
}

async function run(files: readonly string[], options: Options): Promise<void> {
  const { backend, strict, lazy, access, seed, perfetto, format, json } = options;
  if (seed !== undefined && access !== "random") throw new UsageError("--seed needs --access random");
  const modes: Mode[] = lazy ? (strict ? ["strict", "lazy"] : ["lazy"]) : ["strict"];
  const columns = configurations(
    backend ?? BACKEND_NAMES.map(parseBackend),
    modes,
    options.pages,
    access && { pattern: access, seed: seed ?? 1 },
  );
  const file = perfetto === undefined ? undefined : new TextFile(perfetto);
  const watcher = file && new PerfettoWriter((text) => file.write(text));
  const timing = options.timing ? new Timing() : undefined;
  const replayer = await Replayer.start(columns, watcher, timing);
  for (const file of files.length === 0 ? ["-"] : files)
    await readPieces(file, process.stdin, (bytes) => replayer.read(bytes));
  const replay = replayer.finish();
  watcher?.close();
  file?.close();
  if (replay.events === 0) throw new UsageError("no iommu:map or iommu:unmap event in the input");
  if (timing) process.stderr.write(`${timing.lines(replay.events).join("\n")}\n`);
  process.stdout.write(`${await FORMATS[json ? "json" : format](replay)}\n`);
}
