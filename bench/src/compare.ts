/** The models beside C: the same translations of the same tables in one run, as a ratio of CPU time. */
import type { TranslationPort } from "@iommukit/core";
import type { Baseline } from "./baseline.js";
import { type Arch, Machine } from "./machine.js";
import type { Case } from "./stream.js";
import { translate } from "./translate.js";

export interface Row {
  readonly case: string;
  readonly backend: Arch | "alternating" | `${Arch} one event` | `${Arch} every event`;
  /** Millions of translations per second of CPU time: medians. */
  readonly c: number;
  readonly model: number;
  readonly ratio: number;
  /** With a listener: how many times as long as without. */
  readonly slowdown?: number;
}

const ARCHS: readonly Arch[] = ["smmuv3", "vtd"];
/** C and the model take turns that often, so that what else the machine does meets both. */
const ROUNDS = 5;

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

function rates(ports: readonly TranslationPort[], test: Case, count: number): number {
  const each = Math.ceil(count / ROUNDS);
  // What the compiler learns, it learns here.
  translate(ports, test, each);
  return median(Array.from({ length: ROUNDS }, () => translate(ports, test, each).rate));
}

function compareOne(arch: Arch, test: Case, count: number, baseline: Baseline, machine: Machine): Row {
  const each = Math.ceil(count / ROUNDS);
  const ports = [machine.chip(arch, test.kind)];
  translate(ports, test, each);
  const c: number[] = [];
  const model: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const plain = baseline.run(machine, arch, test, each);
    const ours = translate(ports, test, each);
    if (plain.checksum !== ours.checksum)
      throw new Error(`${test.name} ${arch}: C and the model translate differently`);
    c.push(plain.rate);
    model.push(ours.rate);
  }
  return row(test, arch, median(c), median(model));
}

/** Each chip alone. The checksums say that C and the model translate alike. */
export function compare(test: Case, count: number, baseline: Baseline, machine = new Machine(test.pages)): Row[] {
  baseline.load(machine);
  return ARCHS.map((arch) => compareOne(arch, test, count, baseline, machine));
}

/** Each chip alone, both taking turns, and each with a listener to the end of translations or to every event. */
export function measure(test: Case, count: number, baseline: Baseline): Row[] {
  const machine = new Machine(test.pages);
  const alone = compare(test, count, baseline, machine);
  const rows = [...alone];
  const chips = ARCHS.map((arch) => machine.chip(arch, test.kind));
  // Half of the requests each: the time of both baselines, added.
  const both = 2 / (1 / alone[0].c + 1 / alone[1].c);
  rows.push(row(test, "alternating", both, rates(chips, test, count)));
  const traced = Math.ceil(count / 4);
  for (const [i, arch] of ARCHS.entries()) {
    const { c, model } = alone[i];
    let seen = 0;
    const listened = (backend: Row["backend"], off: () => void) => {
      const rate = rates([chips[i]], test, traced);
      off();
      rows.push({ ...row(test, backend, c, rate), slowdown: model / rate });
    };
    listened(
      `${arch} one event`,
      machine.trace.on("translate:completed", ({ status }) => {
        seen += status;
      }),
    );
    listened(
      `${arch} every event`,
      machine.trace.subscribe(({ time }) => {
        seen += time;
      }),
    );
    if (seen !== 0) throw new Error(`${test.name}: a traced translation failed`);
  }
  return rows;
}

function row(test: Case, backend: Row["backend"], c: number, model: number): Row {
  return { case: test.name, backend, c, model, ratio: model / c };
}
