/** `iommukit doctor`: why shared virtual addressing is off on a machine, from its files. */
import { Command, InvalidArgumentError } from "commander";
import { diagnose, diagnosisText } from "../doctor/doctor.js";
import { readLive } from "../doctor/live.js";
import { Machine } from "../doctor/machine.js";
import { UsageError } from "../errors.js";
import { canonicalBdf } from "../explain/hex.js";
import { readLines } from "../explain/read-lines.js";

interface Options {
  readonly live?: boolean;
  readonly s?: string;
  readonly json?: boolean;
}

function bdf(text: string): string {
  const value = canonicalBdf(text);
  if (value === undefined) throw new InvalidArgumentError("an address such as 0000:01:00.0 is wanted.");
  return value;
}

export function doctorCommand(): Command {
  return new Command("doctor")
    .description("why is SVA off here: every gate in order, and the first thing to change")
    .argument(
      "[file...]",
      "dmesg, lspci -vvv, kernel configuration, command line, in any mixture; - reads standard input",
    )
    .option("--live", "read this machine's files instead")
    .option("-s <bdf>", "judge this device", bdf)
    .option("--json", "as JSON")
    .action(run);
}

async function run(files: readonly string[], { live, s, json }: Options): Promise<void> {
  if (live && files.length > 0) throw new UsageError("--live and files exclude each other");
  if (live && process.platform !== "linux") throw new UsageError(`--live needs Linux; this is ${process.platform}`);
  const machine = new Machine();
  if (live) readLive(machine);
  else
    for (const file of files.length === 0 ? ["-"] : files)
      await readLines(file, process.stdin, (text) => machine.line(text));
  machine.end();
  const diagnosis = diagnose(machine, s);
  process.stdout.write(`${json ? JSON.stringify(diagnosis, undefined, 2) : diagnosisText(diagnosis)}\n`);
  if (diagnosis.first !== undefined) process.exitCode = 1;
}
