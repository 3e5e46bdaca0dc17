/** `oracle smmuv3`: random cases answered by the model and by QEMU's SMMUv3. */
import { Random } from "@iommukit/core";
import type { Report } from "../../report.js";
import { UsageError } from "../../tool.js";
import type { OracleRequest } from "../request.js";
import { compareOutcome } from "./compare.js";
import { runDriver, runSmmuv3Edu } from "./driver.js";
import type { Outcome } from "./outcome.js";
import { Pair, type Verdict } from "./pair.js";
import { QUIRKS } from "./quirks.js";
import { MODES, type Mode, Scenario } from "./scenario.js";

const BATCH = 16;

export async function run(request: OracleRequest, report: Report): Promise<void> {
  const { mode, cases, seed } = request;
  if (mode === "driver") return runDriver(request, report);
  if (mode === "edu") return runSmmuv3Edu(request, report);
  const modes = mode === undefined ? MODES : MODES.filter((known) => known === mode);
  const known = [...MODES, "driver", "edu"].join(", ");
  if (modes.length === 0) throw new UsageError(`unknown mode ${JSON.stringify(mode)} (known: ${known})`);
  const tally = new Map<string, number>();
  for (const [index, one] of modes.entries()) {
    const share = Math.floor(cases / modes.length) + (index < cases % modes.length ? 1 : 0);
    runMode(one, share, seed, report, tally);
  }
  for (const [name, count] of tally) console.log(`quirk ${name}: ${count} transfers`);
}

interface Pending {
  readonly seed: number;
  readonly verdict: () => Verdict;
}

function runMode(mode: Mode, cases: number, seed: number, report: Report, tally: Map<string, number>): void {
  const random = new Random(seed ^ (MODES.indexOf(mode) << 20));
  const pair = new Pair(mode === "2lvl");
  let pending: Pending[] = [];
  let submitted: { until: number; cases: Pending[] } = { until: 0, cases: [] };
  const collect = () => {
    pair.collect(submitted.until);
    for (const one of submitted.cases) judge(mode, one.seed, one.verdict(), report, tally);
  };
  for (let i = 0; i < cases; i++) {
    const caseSeed = random.u32();
    new Scenario(mode, caseSeed).play(pair);
    pending.push({ seed: caseSeed, verdict: pair.finish() });
    if (pending.length < BATCH && i < cases - 1) continue;
    // QEMU works on this batch while the one before it is judged.
    const until = pair.submit();
    collect();
    submitted = { until, cases: pending };
    pending = [];
  }
  collect();
  pair.close();
}

/** Null when both agree or a quirk says why they do not. */
function judgeOutcome(outcome: Outcome, tally: Map<string, number>): string | null {
  const problem = compareOutcome(outcome);
  const quirk = problem === null ? undefined : QUIRKS.find((one) => one.explains(outcome));
  if (quirk) tally.set(quirk.name, (tally.get(quirk.name) ?? 0) + 1);
  return quirk ? null : problem;
}

function judge(mode: Mode, seed: number, verdict: Verdict, report: Report, tally: Map<string, number>): void {
  const { outcomes, registers } = verdict;
  const problem = outcomes.map((outcome) => judgeOutcome(outcome, tally)).find((one) => one !== null);
  const register = registers.find(({ model, qemu }) => model !== qemu);
  if (register) report.fail(`${mode} case ${seed}: ${register.name} model ${register.model}, QEMU ${register.qemu}`);
  else if (problem !== undefined) report.fail(`${mode} case ${seed}: ${problem}`);
  else report.pass();
}
