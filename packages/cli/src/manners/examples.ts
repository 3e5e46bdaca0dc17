/** Examples of a command's help: they stand in `--help`, in the man page and in docs/cli, and a test parses each. */
import type { Command } from "commander";

/** @param lines pairs: the command line as one types it, and what it is for */
export function withExamples(command: Command, lines: readonly (readonly [line: string, says: string])[]): Command {
  const text = lines.map(([line, says]) => `  # ${says}\n  $ ${line}`).join("\n");
  return command.addHelpText("after", `\nExamples:\n${text}`);
}
