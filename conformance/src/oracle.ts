/** `oracle smmuv3|vtd [--mode M] --cases N --seed S`: random cases, answered by the model and by a live QEMU; `--list` names them. */
import { parseArgs } from "node:util";
import { oracles } from "./oracles.js";
import { Report } from "./report.js";
import { listNames, runTool, UsageError } from "./tool.js";

const USAGE = "usage: oracle smmuv3|vtd [--mode M] --cases N --seed S";

function count(name: string, text: string | undefined, least: number): number {
  const value = Number(text);
  if (text === undefined || text.trim() === "" || !Number.isSafeInteger(value) || value < least)
    throw new UsageError(`--${name} needs a whole number from ${least}; ${USAGE}`);
  return value;
}

function parse(args: string[]) {
  const string = { type: "string" } as const;
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: { mode: string, cases: string, seed: string, list: { type: "boolean" } },
    });
  } catch (error) {
    throw new UsageError(`${(error as Error).message}; ${USAGE}`);
  }
}

await runTool(async (args) => {
  const { positionals, values } = parse(args);
  if (values.list) return listNames(oracles);
  const [name = "", ...rest] = positionals;
  if (name === "" || rest.length > 0) throw new UsageError(USAGE);
  const load = Object.hasOwn(oracles, name) ? oracles[name as keyof typeof oracles] : undefined;
  if (!load)
    throw new UsageError(
      `unknown oracle ${JSON.stringify(name)} (known: ${Object.keys(oracles).join(", ") || "none yet"})`,
    );
  const report = new Report();
  const request = { mode: values.mode, cases: count("cases", values.cases, 1), seed: count("seed", values.seed, 0) };
  await (await load()).run(request, report);
  return report.finish();
});
