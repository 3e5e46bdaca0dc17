/** Replays recorded transcripts of VFIO programs, and judges the peers' VFIO cases. */
import { isHeader } from "@iommukit/cli/machines";
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
    const machine = await Machine.of(header);
    if (!machine) {
      for (const _ of steps) report.notApplicable(`the machine "${header.config}" has an IOMMU that is not modelled`);
      continue;
    }
    await replay(machine, steps as TranscriptStep[], report, file.name);
    for (const leak of await machine.platform.close()) report.fail(`${file.name}: left behind: ${leak}`);
  }
}
