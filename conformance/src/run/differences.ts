/** Where the recorder's lines may differ from those that it wrote on the real kernel, and why. Everything else is an error. */
import type { TranscriptHeader } from "@iommukit/cli/machines";
import { difference } from "../vfio/compare.js";
import { asQemu } from "../vfio/qemu-quirks.js";
import type { Fields, TranscriptStep } from "../vfio/transcript.js";

interface Difference {
  readonly reason: string;
  allows(header: TranscriptHeader, expected: TranscriptStep, written: TranscriptStep): boolean;
}

const MACHINES: Readonly<Record<string, string>> = { x64: "x86_64", arm64: "aarch64" };

const DIFFERENCES: readonly Difference[] = [
  {
    reason: "the recorder draws random numbers in its arguments, whose order another architecture's compiler chose",
    allows: ({ machine }, { scenario = "", in: asked }, { in: given }) =>
      machine !== MACHINES[process.arch] && scenario.startsWith("random.") && !same({ asked }, { asked: given }),
  },
  {
    reason: "QEMU 7.2 reports faults in another way than the architecture says",
    allows: (header, expected, written) =>
      onlyFaultsDiffer(expected, written) &&
      same({ faults: asQemu(header, expected, faultsOf(written)) }, { faults: faultsOf(expected) }),
  },
  {
    reason: "which faults the kernel prints depends on its rate limit, so on the machine's speed",
    allows: ({ config }, expected, written) => !config.endsWith("-faults") && onlyFaultsDiffer(expected, written),
  },
  {
    reason: "only root can change its user and exceed RLIMIT_MEMLOCK",
    allows: (_header, { scenario = "" }) => process.getuid?.() !== 0 && scenario.startsWith("memlock."),
  },
];

/** The reason; undefined: an error. */
export function differenceAllowed(
  header: TranscriptHeader,
  expected: TranscriptStep,
  written: TranscriptStep,
): string | undefined {
  return DIFFERENCES.find((one) => one.allows(header, expected, written))?.reason;
}

function same(expected: Fields, written: Fields): boolean {
  return difference(expected, written) === undefined;
}

function faultsOf(line: TranscriptStep): readonly string[] {
  return line.faults as readonly string[];
}

function onlyFaultsDiffer(expected: TranscriptStep, written: TranscriptStep): boolean {
  return expected.op === "dma" && same({ ...expected, faults: [] }, { ...written, faults: [] });
}
