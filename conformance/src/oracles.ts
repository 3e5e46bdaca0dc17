/** The oracles by name: rooms of `oracle/`, each entered by its `run`. */
import type { OracleRequest } from "./oracle/request.js";
import type { Report } from "./report.js";

interface Oracle {
  run(request: OracleRequest, report: Report): Promise<void>;
}

export const oracles: Readonly<Record<"smmuv3" | "vtd", () => Promise<Oracle>>> = {
  smmuv3: () => import("./oracle/smmuv3/run.js"),
  vtd: () => import("./oracle/vtd/run.js"),
};
