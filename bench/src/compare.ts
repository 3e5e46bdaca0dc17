/** The models beside C: the same translations of the same tables in one run, as a ratio of CPU time. */
import type { TranslationPort } from "@iommukit/core";
import type { Baseline } from "./baseline.js";
import { type Arch, Machine } from "./machine.js";
import type { Case } from "./stream.js";
import { translate } from "./translate.js";

export interface Row {
  readonly case: string;
  readonly backend: Arch | "alternating" | `${Arch} one event` | `${Arch} every event`;
  /** Millions of translations per second of CPU time. */
  readonly c: number;
  readonly model: number;
  readonly ratio: number;
  /** With a listener: how many times as long as without. */
  readonly slowdown?: number;
}

const ARCHS: readonly Arch[] = ["smmuv3", "vtd"];
/** One chip alone, or both taking turns. */
export const SUBJECTS = [...ARCHS, "alternating"] as const;
export type Subject = (typeof SUBJECTS)[number];
/** C and the model take turns that often. Whatever else the machine does only ever takes time: the best turn counts. */
const ROUNDS = 7;
/** Of the translations, with a listener to every event: each takes many times as long. */
const EVERY_SHARE = 1 / 4;

function rates(ports: readonly TranslationPort[], test: Case, count: number): number {
  const each = Math.ceil(count / ROUNDS);
  // What the compiler learns, it learns here.
  translate(ports, test, each);
  return Math.max(...Array.from({ length: ROUNDS }, () => translate(ports, test, each).rate));
}

/** The checksums say that C and the model translate alike. */
function beside(
  arch: Arch,
  port: TranslationPort,
  test: Case,
  count: number,
  baseline: Baseline,
  machine: Machine,
): Row {
  const each = Math.ceil(count / ROUNDS);
  const ports = [port];
  translate(ports, test, each);
  const best = { c: 0, model: 0 };
  for (let round = 0; round < ROUNDS; round++) {
    const plain = baseline.run(machine, arch, test, each);
    const ours = translate(ports, test, each);
    if (plain.checksum !== ours.checksum)
      throw new Error(`${test.name} ${arch}: C and the model translate differently`);
    best.c = Math.max(best.c, plain.rate);
    best.model = Math.max(best.model, ours.rate);
  }
  return row(test, arch, best.c, best.model);
}

/** One chip alone. */
export function compare(arch: Arch, test: Case, count: number, baseline: Baseline): Row {
  const machine = new Machine(test.pages);
  baseline.load(machine);
  return beside(arch, machine.chip(arch, test.kind), test, count, baseline, machine);
}

/** Both chips taking turns; or one alone, then with a listener to the end of translations, and with one to every event. */
export function measure(subject: Subject, test: Case, count: number, baseline: Baseline): Row[] {
  const machine = new Machine(test.pages);
  baseline.load(machine);
  if (subject === "alternating") {
    const each = Math.ceil(count / ROUNDS);
    const best = (arch: Arch) =>
      Math.max(...Array.from({ length: ROUNDS }, () => baseline.run(machine, arch, test, each).rate));
    // Half of the requests each: the time of both baselines, added.
    const both = 2 / (1 / best("smmuv3") + 1 / best("vtd"));
    const chips = ARCHS.map((arch) => machine.chip(arch, test.kind));
    return [row(test, subject, both, rates(chips, test, count))];
  }
  const chip = machine.chip(subject, test.kind);
  const alone = beside(subject, chip, test, count, baseline, machine);
  let seen = 0;
  const listened = (backend: Row["backend"], off: () => void, share = 1): Row => {
    const rate = rates([chip], test, Math.ceil(count * share));
    off();
    return { ...row(test, backend, alone.c, rate), slowdown: alone.model / rate };
  };
  const end = machine.trace.on("translate:completed", ({ status }) => {
    seen += status;
  });
  const one = listened(`${subject} one event`, end);
  const every = listened(
    `${subject} every event`,
    machine.trace.subscribe(({ time }) => {
      seen += time;
    }),
    EVERY_SHARE,
  );
  if (seen !== 0) throw new Error(`${test.name}: a traced translation failed`);
  return [alone, one, every];
}

function row(test: Case, backend: Row["backend"], c: number, model: number): Row {
  return { case: test.name, backend, c, model, ratio: model / c };
}
