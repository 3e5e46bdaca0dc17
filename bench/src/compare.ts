/** The models beside C: the same translations of the same tables in one run, as a ratio of CPU time. */
import type { Baseline } from "./baseline.js";
import { type Arch, Machine } from "./machine.js";
import type { Case } from "./stream.js";
import { translate } from "./translate.js";

export interface Row {
  readonly case: string;
  readonly backend: Arch | "alternating" | `${Arch} traced`;
  /** Millions of translations per second of CPU time. */
  readonly c: number;
  readonly model: number;
  readonly ratio: number;
}

const ARCHS: readonly Arch[] = ["smmuv3", "vtd"];

/** Each chip alone. The checksums say that C and the model translate alike. */
export function compare(test: Case, count: number, baseline: Baseline, machine = new Machine(test.pages)): Row[] {
  baseline.load(machine);
  return ARCHS.map((arch) => {
    const c = baseline.run(machine, arch, test, count);
    const model = translate([machine.chip(arch, test.kind)], test, count);
    if (c.checksum !== model.checksum) throw new Error(`${test.name} ${arch}: C and the model translate differently`);
    return row(test, arch, c.rate, model.rate);
  });
}

/** Each chip alone, both taking turns, and each with a listener to every event of the trace. */
export function measure(test: Case, count: number, baseline: Baseline): Row[] {
  const machine = new Machine(test.pages);
  const rows = compare(test, count, baseline, machine);
  const [smmuv3, vtd] = rows;
  const chips = ARCHS.map((arch) => machine.chip(arch, test.kind));
  // Half of the requests each: the time of both baselines, added.
  rows.push(row(test, "alternating", 2 / (1 / smmuv3.c + 1 / vtd.c), translate(chips, test, count).rate));
  const off = machine.trace.subscribe(() => {});
  for (const { backend, c } of [smmuv3, vtd]) {
    const chip = machine.chip(backend as Arch, test.kind);
    rows.push(row(test, `${backend as Arch} traced`, c, translate([chip], test, Math.ceil(count / 10)).rate));
  }
  off();
  return rows;
}

function row(test: Case, backend: Row["backend"], c: number, model: number): Row {
  return { case: test.name, backend, c, model, ratio: model / c };
}
