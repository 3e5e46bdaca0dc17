/** `iommukit doctor`: why shared virtual addressing is off on a machine, from its files. */
import { Command, Option } from "commander";
import { diagnose, diagnosisText } from "../doctor/doctor.js";
import { readLive } from "../doctor/live.js";
import { Machine } from "../doctor/machine.js";
import { UsageError } from "../errors.js";
import { readLines } from "../explain/read-lines.js";
import { colours } from "../manners/colours.js";
import { withExamples } from "../manners/examples.js";
import { bdf } from "./values.js";

interface Options {
  readonly live?: boolean;
  readonly s?: string;
  readonly json?: boolean;
  readonly ndjson?: boolean;
}

export function doctorCommand(): Command {
  const command = new Command("doctor")
    .description("why is SVA off here: every gate in order, and the first thing to change")
    .argument(
      "[file...]",
      "dmesg, lspci -vvv, kernel configuration, command line, in any mixture; - reads standard input",
    )
    .option("--live", "read this machine's files instead")
    .option("-s <bdf>", "judge this device", bdf)
    .option("--json", "as JSON")
    .addOption(new Option("--ndjson", "one gate a line, as JSON").conflicts("json"))
    .action(run);
  return withExamples(command, [
    ["sudo iommukit doctor --live", "this machine, with every file that root may read"],
    ["iommukit doctor dmesg.txt lspci.txt config-6.12 cmdline.txt", "another machine, from its files"],
    ["iommukit doctor --live -s 6a:01.0", "one device of this machine"],
  ]);
}

async function run(files: readonly string[], { live, s, json, ndjson }: Options): Promise<void> {
  if (live && files.length > 0) throw new UsageError("--live and files exclude each other");
  if (live && process.platform !== "linux") throw new UsageError(`--live needs Linux; this is ${process.platform}`);
  const machine = new Machine();
  if (live) readLive(machine);
  else
    for (const file of files.length === 0 ? ["-"] : files)
      await readLines(file, process.stdin, (text) => machine.line(text));
  machine.end();
  const diagnosis = diagnose(machine, s);
  const lines = ndjson
    ? diagnosis.verdicts.map((verdict) => JSON.stringify(verdict))
    : [json ? JSON.stringify(diagnosis, undefined, 2) : diagnosisText(diagnosis, colours(process.stdout))];
  process.stdout.write(`${lines.join("\n")}\n`);
  const known = diagnosis.verdicts.some(({ result }) => result !== "unknown");
  if (!known) process.stderr.write("iommukit: nothing in the input that doctor knows\n");
  if (!known || diagnosis.first !== undefined) process.exitCode = 1;
}
