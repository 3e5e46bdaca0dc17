/**
 * The suites by name. A suite is `src/runners/<name>.ts`, a module that is a `Runner`, and one line here:
 * `vfio: () => import("./runners/vfio.js"),`
 */
import type { LoadedFile } from "./load.js";
import type { Report } from "./report.js";

export type SuiteName =
  | "vfio"
  | "page-table"
  | "ste"
  | "smmu-script"
  | "vtd-script"
  | "qi-trace"
  | "pci"
  | "ats"
  | "iotlb"
  | "run"
  | "features";

export interface Runner {
  /** The suite brings what it judges; files are optional. */
  readonly withoutFiles?: boolean;
  /** What a file of the suite has in it, in words: "page tables". */
  readonly holds: string;
  /** Whether there is at least one thing in the file that the suite can judge. */
  recognises(file: LoadedFile): boolean;
  /** Every file is one that it recognises. */
  run(files: LoadedFile[], report: Report): Promise<void>;
}

export const suites: Partial<Record<SuiteName, () => Promise<Runner>>> = {
  features: () => import("./runners/features.js"),
  run: () => import("./runners/run.js"),
  vfio: () => import("./runners/vfio.js"),
  "page-table": () => import("./runners/page-table.js"),
  ste: () => import("./runners/ste.js"),
  "smmu-script": () => import("./runners/smmu-script.js"),
  "qi-trace": () => import("./runners/qi-trace.js"),
  pci: () => import("./runners/pci.js"),
  ats: () => import("./runners/ats.js"),
  iotlb: () => import("./runners/iotlb.js"),
  "vtd-script": () => import("./runners/vtd-script.js"),
};
