/** Every gate in the order in which they open: a failure explains those after it. */
import type { Colours } from "../manners/colours.js";
import type { Gate, Verdict } from "./gate.js";
import { DEVICE, DRIVER, GROUP, IOMMU } from "./gates-hardware.js";
import { COMMAND_LINE, DEFAULT_DOMAIN, FIRMWARE, KERNEL_CONFIG } from "./gates-kernel.js";
import type { Machine } from "./machine.js";

export const GATES: readonly Gate[] = [
  FIRMWARE,
  KERNEL_CONFIG,
  COMMAND_LINE,
  IOMMU,
  DEFAULT_DOMAIN,
  GROUP,
  DEVICE,
  DRIVER,
];

export interface Diagnosis {
  readonly verdicts: readonly Verdict[];
  /** The first failure's remedy. */
  readonly first: string | undefined;
}

export function diagnose(machine: Machine, device?: string): Diagnosis {
  const verdicts = GATES.flatMap((gate) =>
    gate.check(machine, device).map((verdict): Verdict => ({ gate: gate.name, ...verdict })),
  );
  return { verdicts, first: verdicts.find(({ result }) => result === "fail")?.change };
}

const COLOUR = { pass: "green", fail: "red", unknown: "yellow" } as const;

export function diagnosisText({ verdicts, first }: Diagnosis, colours: Colours): string {
  const width = Math.max(...verdicts.map(({ gate }) => gate.length));
  const lines = verdicts.map(
    ({ gate, result, because }) =>
      `${colours[COLOUR[result]](result.padEnd("unknown".length))}  ${gate.padEnd(width)}  ${because}`,
  );
  const unknown = verdicts.filter(({ result }) => result === "unknown").length;
  const rest = unknown > 0 ? `nothing failed; ${unknown} gates are unknown` : "every gate is open";
  return [...lines, "", first === undefined ? rest : `${colours.bold("first thing to change:")} ${first}`].join("\n");
}
