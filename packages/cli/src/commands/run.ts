/** `iommukit run`: an unmodified VFIO program on a platform of ours, without hardware and without root. */
import { type Platform, traceLine } from "@iommukit/core";
import { Command, Option } from "commander";
import { UsageError } from "../errors.js";
import { loadMachine } from "../machines/load-machine.js";
import { withExamples } from "../manners/examples.js";
import { TextFile } from "../manners/text-file.js";
import { startChecks } from "../run/checks.js";
import { checkedExecutable } from "../run/executable.js";
import { INJECTIONS, parseInjections } from "../run/injections.js";
import { runSession, type SessionResult } from "../run/session.js";

interface Options {
  readonly machine?: string;
  readonly record?: string;
  readonly inject: string;
  readonly expectClean?: boolean;
  readonly skipSleeps?: boolean;
}

/** Findings that are shown. */
const LISTED = 20;

export function runCommand(): Command {
  const injections = Object.entries(INJECTIONS).map(([name, { says }]) => `  ${name}: ${says}`);
  const command = new Command("run")
    .description("run a VFIO program on a modelled machine: /dev/vfio, sysfs, interrupts, DMA into its memory")
    .argument("<program>", "dynamically linked; after --")
    .argument("[args...]")
    .option("--machine <file>", "a module whose default export makes a platform, or a recorded VFIO transcript")
    .option("--record <file>", "write every system call, access, DMA and fault there, as NDJSON")
    .addOption(
      new Option(
        "--inject <names>",
        "comma-separated: what goes wrong (below), or known bugs of drivers (S-1, L-1, …)",
      ).default("", "nothing"),
    )
    .option(
      "--expect-clean",
      "fail when a DMA was refused, the kernel complained, a rule of IOMMU drivers was broken, or something is still held at the end",
    )
    .option("--skip-sleeps", "sleeps of the program take no time: the machine's clock goes on by as much")
    .addHelpText("after", `\nInjections:\n${injections.join("\n")}`)
    .passThroughOptions()
    .action(run);
  return withExamples(command, [
    ["iommukit run -- ./driver-test 0000:00:05.0", "the program as it is, on the default machine"],
    ["iommukit run --machine machine.ts --expect-clean -- ./driver-test", "on a machine of one's own, for CI"],
    ["iommukit run --record session.ndjson -- ./driver-test", "with a recording of all that happens"],
  ]);
}

async function run(program: string, args: readonly string[], options: Options): Promise<void> {
  if (process.platform !== "linux") throw new UsageError(`run needs Linux; this is ${process.platform}`);
  const { injections, variants } = parseInjections(options.inject);
  const path = checkedExecutable(program);
  const machine = await loadMachine(options.machine, { variants });
  const { platform } = machine;
  const stopRecording = options.record === undefined ? () => {} : startRecording(platform, options.record);
  const findings = options.expectClean ? startChecks(platform) : undefined;
  for (const name of injections) INJECTIONS[name].apply(platform);
  const result = await runSession({ machine, program: path, args, skipSleeps: options.skipSleeps });
  stopRecording();
  const complaints = complaintsAbout(program, result, findings?.());
  for (const line of complaints) process.stderr.write(`iommukit: ${line}\n`);
  process.exitCode = result.status !== 0 ? result.status : complaints.length > 0 ? 1 : 0;
}

/** @returns what ends it, and throws UsageError when it could not be written: the program must not feel that */
function startRecording(platform: Platform, file: string): () => void {
  const record = new TextFile(file, 0);
  let failure: unknown;
  const stop = platform.trace.subscribe((event) => {
    if (failure !== undefined) return;
    try {
      record.write(`${traceLine(event)}\n`);
    } catch (error) {
      failure = error;
    }
  });
  return () => {
    stop();
    record.close();
    if (failure !== undefined) throw failure;
  };
}

/** @param findings of --expect-clean; undefined: nobody asked */
function complaintsAbout(
  program: string,
  { loaded, leaks, errors }: SessionResult,
  findings: readonly string[] | undefined,
): string[] {
  const complaints = errors.map((error) => (error instanceof Error ? (error.stack ?? error.message) : String(error)));
  if (!loaded) complaints.push(`${program} did not load the library: it saw this machine, not the modelled one`);
  if (!findings) return complaints;
  const more = findings.length > LISTED ? [`${findings.length - LISTED} more lines`] : [];
  return [...complaints, ...leaks.map((leak) => `left behind: ${leak}`), ...findings.slice(0, LISTED), ...more];
}
