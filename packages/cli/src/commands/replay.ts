/** `iommukit replay`: the maps and unmaps of a recorded trace, done again by each backend's driver. */
import { Command, InvalidArgumentError, Option } from "commander";
import { UsageError } from "../errors.js";
import { readLines } from "../explain/read-lines.js";
import { withExamples } from "../manners/examples.js";
import { REPLAY_BACKENDS } from "../replay/backends.js";
import { replayJson, replayMarkdown, replayText } from "../replay/render.js";
import { Replayer } from "../replay/replay.js";

interface Options {
  readonly backends: readonly string[];
  readonly strict?: boolean;
  readonly lazy?: boolean;
  readonly format: string;
  readonly json?: boolean;
}

const FORMATS = { text: replayText, md: replayMarkdown, json: replayJson } as const;

function names(text: string): string[] {
  const chosen = text.split(",");
  if (chosen.some((name) => !Object.hasOwn(REPLAY_BACKENDS, name)) || new Set(chosen).size !== chosen.length) {
    throw new InvalidArgumentError(`each of ${Object.keys(REPLAY_BACKENDS).join(", ")} at most once is wanted.`);
  }
  return chosen;
}

export function replayCommand(): Command {
  const command = new Command("replay")
    .description(
      "do the maps and unmaps of an ftrace text (iommu:map, iommu:unmap) behind each backend and count what they cost",
    )
    .argument("[file...]", "ftrace or trace-cmd report text, also as .gz; - or nothing reads standard input")
    .option("--backends <names>", "comma-separated", names, Object.keys(REPLAY_BACKENDS))
    .option("--strict", "invalidate at every unmap (the default)")
    .option("--lazy", "iommu.strict=0: unmaps wait for a common invalidation")
    .addOption(new Option("--format <name>", "how to write it").choices(Object.keys(FORMATS)).default("text"))
    .option("--json", "the same as --format json")
    .action(run);
  return withExamples(command, [
    ["iommukit replay trace.txt.gz", "what the trace costs behind each IOMMU"],
    ["trace-cmd report | iommukit replay --lazy --format md", "with deferred invalidation, as a Markdown table"],
  ]);
}

async function run(files: readonly string[], options: Options): Promise<void> {
  if (options.strict && options.lazy) throw new UsageError("--strict and --lazy exclude each other");
  const replayer = await Replayer.start(options.backends, options.lazy ?? false);
  for (const file of files.length === 0 ? ["-"] : files) {
    await readLines(
      file,
      process.stdin,
      (text) => replayer.line(text),
      () => replayer.flush(),
    );
  }
  const replay = await replayer.finish();
  if (replay.events === 0) throw new UsageError("no iommu:map or iommu:unmap event in the input");
  const render = FORMATS[options.json ? "json" : (options.format as keyof typeof FORMATS)];
  process.stdout.write(`${render(replay)}\n`);
}
