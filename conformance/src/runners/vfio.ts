/** Replays recorded transcripts of VFIO programs, and judges the peers' VFIO cases. */
import { isHeader, type TranscriptHeader, UnknownMachine, withDomainType } from "@iommukit/cli/machines";
import type { LoadedFile } from "../load.js";
import type { Report } from "../report.js";
import { isCaseFile, runCases } from "../vfio/cases.js";
import { Machine } from "../vfio/machine.js";
import { replay } from "../vfio/replay.js";
import type { TranscriptStep } from "../vfio/transcript.js";

export const holds = "transcript of VFIO calls, nor VFIO cases";

export function recognises(file: LoadedFile): boolean {
  return isCaseFile(file) || (isHeader(file.records[0]) && file.records.length > 1);
}

export async function run(files: LoadedFile[], report: Report): Promise<void> {
  for (const file of files) {
    if (isCaseFile(file)) {
      await runCases(file, report);
      continue;
    }
    const [header, ...steps] = file.records as [TranscriptHeader, ...TranscriptStep[]];
    await report.attempt(file.name, () => replayOn(header, steps, report, file.name));
  }
}

async function replayOn(
  header: TranscriptHeader,
  steps: TranscriptStep[],
  report: Report,
  name: string,
): Promise<void> {
  try {
    const machine = await Machine.of(withDomainType(header, steps));
    await replay(machine, steps, report, name);
    for (const leak of await machine.platform.close()) report.fail(`${name}: left behind: ${leak}`);
  } catch (error) {
    if (!(error instanceof UnknownMachine)) throw error;
    for (const _ of steps) report.notApplicable(error.message);
  }
}
