/**
 * The recorder itself, a C program, under `iommukit run` on the machine of each transcript: it has to write the transcript's
 * lines again. What may differ stands in ../run/differences.ts, each with its reason.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { isHeader, type TranscriptHeader } from "@iommukit/cli/machines";
import { loadMachine, runSession } from "@iommukit/cli/run";
import { type LoadedFile, loadFile } from "../load.js";
import type { Report } from "../report.js";
import { differenceAllowed } from "../run/differences.js";
import { UsageError } from "../tool.js";
import { difference } from "../vfio/compare.js";
import type { TranscriptStep } from "../vfio/transcript.js";

const SOURCE = fileURLToPath(new URL("../../programs/vfiorec.c", import.meta.url));

export const holds = "transcript of VFIO calls";

export function recognises({ records }: LoadedFile): boolean {
  return isHeader(records[0]) && records.length > 1;
}

export async function run(files: LoadedFile[], report: Report): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "vfiorec-"));
  try {
    const program = join(directory, "vfiorec");
    const { status, error, stderr } = spawnSync(process.env.CC ?? "cc", ["-O1", "-o", program, SOURCE], {
      encoding: "utf8",
    });
    if (status !== 0) throw new UsageError(`the recorder needs a C compiler: ${error?.message ?? stderr}`);
    for (const file of files)
      await report.attempt(file.name, () => record(program, file, join(directory, "lines"), report));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function record(program: string, file: LoadedFile, output: string, report: Report): Promise<void> {
  const [header, ...steps] = file.records as [TranscriptHeader, ...TranscriptStep[]];
  const devices = Object.entries(header.devices).map(([letter, { bdf }]) => `${letter}=${bdf}`);
  const args = [output, header.config, ...scenariosOf(header, steps), ...devices];
  const machine = await loadMachine(file.path);
  const { status, leaks, errors } = await runSession({ machine, program, args, skipSleeps: true });
  if (status !== 0) report.fail(`${file.name}: the recorder ended with status ${status}`);
  for (const leak of leaks) report.fail(`${file.name}: left behind: ${leak}`);
  for (const error of errors) report.fail(`${file.name}: ${String(error)}`);
  compare(header, file, loadFile(output).records as TranscriptStep[], report);
}

/** The part of its scenarios that was recorded, with pauses where the kernel's log counts. */
function scenariosOf({ config }: TranscriptHeader, steps: readonly TranscriptStep[]): string[] {
  const names = steps.flatMap(({ scenario }) => (scenario === undefined || scenario === "sysfs" ? [] : [scenario]));
  const common = names.reduce(commonStart);
  return [...(config.endsWith("-faults") ? ["-s"] : []), ...(common === "" ? [] : ["-o", common])];
}

function commonStart(one: string, other: string): string {
  let length = 0;
  while (length < one.length && one[length] === other[length]) length++;
  return one.slice(0, length);
}

/** Lines go together by scenario and step: those of a child are between its parent's in any order. */
function compare(header: TranscriptHeader, file: LoadedFile, written: readonly TranscriptStep[], report: Report): void {
  const lines = new Map(written.map((line) => [placeOf(line), line]));
  for (const expected of file.records as TranscriptStep[]) {
    const place = placeOf(expected);
    const line = lines.get(place);
    lines.delete(place);
    const differs = line ? difference(expected, line) : "is missing";
    const reason = line && differs !== undefined ? differenceAllowed(header, expected, line) : undefined;
    if (differs === undefined) report.pass();
    else if (reason !== undefined) report.notApplicable(reason);
    else report.fail(`${file.name} ${place}: ${differs}`);
  }
  for (const place of lines.keys()) report.fail(`${file.name} ${place}: the kernel's program wrote no such line`);
}

function placeOf({ scenario = "", step, op }: TranscriptStep): string {
  return step === undefined ? `${scenario} ${op}` : `${scenario} step ${step}`;
}
