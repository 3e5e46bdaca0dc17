/** A piece of work that runs on the accelerator behind each backend, and whose results are known from elsewhere. */
import type { Bench } from "./bench.js";

export interface NamedWorkload {
  readonly name: string;
  /** One line for the help. */
  readonly says: string;
  /** It works in address spaces of processes: PASID, ATS and page requests are needed. Otherwise on MAP_DMA alone. */
  readonly shares: boolean;
  /** MiB when nobody says it. */
  readonly mib: number;
  /** Inside of the platform, set up. Every result goes through `bench.check`. */
  run(bench: Bench): Promise<void>;
}
