/** The command line as a value, so that tests can drive it without a process. */
import { Command, CommanderError } from "commander";
import { UsageError } from "./errors.js";
import { version } from "./version.js";

/** Each command's code is loaded when it is wanted: most of the packages are behind one of them. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  explain: async () => (await import("./commands/explain.js")).explainCommand(),
  doctor: async () => (await import("./commands/doctor.js")).doctorCommand(),
  replay: async () => (await import("./commands/replay.js")).replayCommand(),
  calibrate: async () => (await import("./commands/calibrate.js")).calibrateCommand(),
  run: async () => (await import("./commands/run.js")).runCommand(),
  explore: async () => (await import("./commands/explore.js")).exploreCommand(),
  compare: async () => (await import("./commands/compare.js")).compareCommand(),
  completion: async () => (await import("./commands/completion.js")).completionCommand(() => createProgram()),
};

/** The commands that these words can mean: the named one, or all, for help and suggestions. */
function wanted([first]: readonly string[]): readonly string[] {
  return first !== undefined && Object.hasOwn(COMMANDS, first) ? [first] : Object.keys(COMMANDS);
}

/** @param words the command line: commands that it does not name are left out; without it, every command is there */
export async function createProgram(words: readonly string[] = []): Promise<Command> {
  const program = new Command("iommukit")
    .description("shared virtual addressing without the hardware")
    .version(version())
    .enablePositionalOptions();
  for (const name of wanted(words)) program.addCommand(await COMMANDS[name]());
  for (const command of [program, ...program.commands])
    command.exitOverride().configureOutput({ outputError: (text, write) => write(oneLine(text)) });
  return program;
}

/** As all messages are: suggestions, and messages of others, have line ends in them; the parser's begin otherwise. */
function oneLine(text: string): string {
  return `${text
    .trim()
    .replace(/^error: /, "iommukit: ")
    .replaceAll(/\s*\n\s*/g, " ")}\n`;
}

/** @throws UsageError no command is named, where the parser would answer with the whole help */
function checkCommand(words: readonly string[]): void {
  const [name, about] = words.filter((word) => word !== "--");
  const missing = name === "help" && about !== undefined && !Object.hasOwn(COMMANDS, about);
  if (missing) throw new UsageError(`there is no command ${JSON.stringify(about)}; iommukit --help lists them`);
  if (name === undefined) throw new UsageError("a command is wanted; iommukit --help lists them");
}

/** @returns the exit status: 0, 1 when something was found wrong, 2 for bad input (after one line on stderr) */
export async function main(words: readonly string[]): Promise<number> {
  try {
    checkCommand(words);
    await (await createProgram(words)).parseAsync(words, { from: "user" });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(oneLine(`iommukit: ${error.message}`));
    return 2;
  }
}
