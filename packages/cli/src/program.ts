/** The command line as a value, so that tests can drive it without a process. */
import { Command, CommanderError } from "commander";
import { compareCommand } from "./commands/compare.js";
import { doctorCommand } from "./commands/doctor.js";
import { explainCommand } from "./commands/explain.js";
import { replayCommand } from "./commands/replay.js";
import { UsageError } from "./errors.js";

export function createProgram(): Command {
  const program = new Command("iommukit")
    .description("Shared Virtual Addressing without the hardware")
    .version("0.1.0")
    .addCommand(explainCommand())
    .addCommand(doctorCommand())
    .addCommand(replayCommand())
    .addCommand(compareCommand());
  for (const command of [program, ...program.commands]) command.exitOverride();
  return program;
}

/** @returns the exit status: 0, 1 when something was found wrong, 2 for bad input (after one line on stderr) */
export async function main(words: readonly string[]): Promise<number> {
  try {
    await createProgram().parseAsync(words, { from: "user" });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`iommukit: ${error.message}\n`);
    return 2;
  }
}
