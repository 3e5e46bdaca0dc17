/** `iommukit run`: an unmodified VFIO program on a platform of ours, without hardware and without root. */
import { closeSync, openSync, writeSync } from "node:fs";
import { traceLine } from "@iommukit/core";
import { Command } from "commander";
import { UsageError } from "../errors.js";
import { loadMachine } from "../machines/load-machine.js";
import { checkedExecutable } from "../run/executable.js";
import { runSession } from "../run/session.js";

interface Options {
  readonly machine?: string;
  readonly record?: string;
  readonly expectClean?: boolean;
}

export function runCommand(): Command {
  return new Command("run")
    .description("run a VFIO program on a modelled machine: /dev/vfio, sysfs, interrupts, DMA into its memory")
    .argument("<program>", "dynamically linked; after --")
    .argument("[args...]")
    .option("--machine <file>", "a module whose default export makes a platform, or a recorded VFIO transcript")
    .option("--record <file>", "write every system call, access, DMA and fault there, as NDJSON")
    .option("--expect-clean", "fail when the platform faulted, or still holds something after the program's end")
    .passThroughOptions()
    .action(run);
}

async function run(program: string, args: readonly string[], options: Options): Promise<void> {
  if (process.platform !== "linux") throw new UsageError(`run needs Linux; this is ${process.platform}`);
  const path = checkedExecutable(program);
  const machine = await loadMachine(options.machine);
  const { platform } = machine;
  const record = options.record === undefined ? undefined : openSync(options.record, "w");
  if (record !== undefined) platform.trace.subscribe((event) => writeSync(record, `${traceLine(event)}\n`));
  const { status, loaded, leaks, errors } = await runSession({ machine, program: path, args });
  if (record !== undefined) closeSync(record);
  for (const error of errors)
    process.stderr.write(`iommukit: ${error instanceof Error ? error.stack : String(error)}\n`);
  if (!loaded)
    process.stderr.write(`iommukit: ${program} did not load the library: it saw this machine, not the modelled one\n`);
  const reports = [...leaks];
  if (options.expectClean) for (const line of reports) process.stderr.write(`iommukit: left behind: ${line}\n`);
  process.exitCode = status !== 0 ? status : errors.length > 0 || (options.expectClean && reports.length > 0) ? 1 : 0;
}
