/** Replays recorded transcripts of VFIO programs, and judges the peers' VFIO cases. */
import { isHeader, type TranscriptHeader, UnknownMachine } from "@iommukit/cli/machines";
import type { LoadedFile } from "../load.js";
import type { Report } from "../report.js";
import { UsageError } from "../tool.js";
import { isCaseFile, runCases } from "../vfio/cases.js";
import { Machine } from "../vfio/machine.js";
import { replay } from "../vfio/replay.js";
import type { TranscriptStep } from "../vfio/transcript.js";

export async function run(files: LoadedFile[], report: Report): Promise<void> {
  for (const file of files) {
    if (isCaseFile(file.document)) {
      await runCases(file.document, report);
      continue;
    }
    const [header, ...steps] = file.records;
    if (!isHeader(header)) throw new UsageError(`${file.path} is neither a transcript nor a file of VFIO cases`);
    await replayOn(header, steps as TranscriptStep[], report, file.name);
  }
}

async function replayOn(
  header: TranscriptHeader,
  steps: TranscriptStep[],
  report: Report,
  name: string,
): Promise<void> {
  try {
    const machine = await Machine.of(header);
    await replay(machine, steps, report, name);
    for (const leak of await machine.platform.close()) report.fail(`${name}: left behind: ${leak}`);
  } catch (error) {
    if (!(error instanceof UnknownMachine)) throw error;
    for (const _ of steps) report.notApplicable(error.message);
  }
}
