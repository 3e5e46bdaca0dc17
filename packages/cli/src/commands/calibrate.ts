/** `iommukit calibrate`: published figures beside what the models give for them. */
import { Argument, Command } from "commander";
import { CALIBRATIONS } from "../calibrate/calibrations.js";
import { calibrationJson, calibrationText, type Outcome, passes } from "../calibrate/render.js";
import { withExamples } from "../manners/examples.js";

export function calibrateCommand(): Command {
  const command = new Command("calibrate")
    .description("compare published measurements with what the models count, and say how each figure came about")
    .addArgument(new Argument("[name]", "one of them; all when absent").choices(CALIBRATIONS.map(({ name }) => name)))
    .option("--json", "write JSON")
    .action(run);
  return withExamples(command, [
    ["iommukit calibrate", "every published figure that the models can check"],
    ["iommukit calibrate hypersio --json", "one of them, for a program"],
  ]);
}

async function run(name: string | undefined, { json }: { readonly json?: boolean }): Promise<void> {
  const outcomes: Outcome[] = [];
  for (const calibration of CALIBRATIONS) {
    if (name === undefined || name === calibration.name)
      outcomes.push({ calibration, findings: await calibration.run() });
  }
  process.stdout.write(`${json ? calibrationJson(outcomes) : calibrationText(outcomes)}\n`);
  if (!outcomes.every(passes)) process.exitCode = 1;
}
