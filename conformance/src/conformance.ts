/** `conformance SUITE FILE…`: loads the files, lets the suite's runner judge them, prints the total; `--list` names the suites. */
import { loadFile } from "./load.js";
import { Report } from "./report.js";
import type { Runner } from "./suites.js";
import { listNames, UsageError } from "./tool.js";

export type SuiteTable = Readonly<Record<string, () => Promise<Runner>>>;

export async function conformance(args: string[], suites: SuiteTable, report = new Report()): Promise<number> {
  const [suite = "", ...paths] = args;
  const known = `suites: ${Object.keys(suites).join(", ") || "none yet"}`;
  if (suite === "--list") return listNames(suites);
  if (suite === "") throw new UsageError(`usage: conformance SUITE FILE… (${known})`);
  if (!Object.hasOwn(suites, suite)) throw new UsageError(`unknown suite ${JSON.stringify(suite)} (${known})`);
  const runner = await suites[suite]();
  if (paths.length === 0 && !runner.withoutFiles) throw new UsageError(`usage: conformance ${suite} FILE…`);
  const files = paths.map(loadFile);
  const alien = files.find((file) => !runner.recognises(file));
  if (alien) throw new UsageError(`${alien.path} holds no ${runner.holds}`);
  await runner.run(files, report);
  return report.finish();
}
