/** The oracles by name; each is a module with `run`, as `smmuv3: () => import("./oracles/smmuv3.js"),` */
import type { Report } from "./report.js";

export interface OracleRequest {
  readonly mode: string | undefined;
  readonly cases: number;
  readonly seed: number;
}

export interface Oracle {
  run(request: OracleRequest, report: Report): Promise<void>;
}

export const oracles: Partial<Record<"smmuv3" | "vtd", () => Promise<Oracle>>> = {
  smmuv3: () => import("./oracles/smmuv3.js"),
  vtd: () => import("./oracles/vtd.js"),
};
