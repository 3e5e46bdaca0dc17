/** What is explored: a machine, and a few actors that meet on it. */
import type { Platform, PlatformOptions } from "@iommukit/core";

/** What a scenario passes on to `createPlatform`. */
export type MachineOptions = Required<Pick<PlatformOptions, "scheduler" | "memory" | "variants" | "pages">> &
  Pick<PlatformOptions, "socket">;

/** What `boot` makes; a scenario may add to it what it needs. */
export interface Machine {
  readonly platform: Platform;
}

/** One run: prepared, and about to begin. Its functions share what `prepare` made. */
export interface Case {
  /** What runs at the same time, by name. Refusals that may be met are caught inside. */
  readonly actors: Readonly<Record<string, () => Promise<unknown>>>;
  /**
   * After all have ended and nothing moves any more, with nobody exploring: gives back what the run took, so that the machine
   * is as before.
   */
  readonly settle?: () => Promise<unknown>;
  /** After that: sentences about what is not as it must be. */
  readonly check?: () => readonly string[];
}

/** What `explore` and `exploreAll` run: `boot` makes a machine, `prepare` one run on it. */
export interface Scenario<M extends Machine = Machine> {
  readonly name: string;
  /** One sentence: who meets whom. */
  readonly summary: string;
  /** Known bugs (variants) that it finds. */
  readonly finds?: readonly string[];
  /** Allocations may fail, where the scheduler says so. */
  readonly allocationsFail?: boolean;
  /** A run leaves the machine as it was not before (a device is pulled out): each needs a new one, and leaks are not looked for. */
  readonly oneShot?: boolean;
  /** Virtual nanoseconds that a run takes at most: a driver that waits longer has lost something. One second when absent. */
  readonly timeLimit?: number;
  boot(options: MachineOptions): Promise<M>;
  /** With nobody exploring: hardware works at once, and no thread is preempted. */
  prepare(machine: M): Promise<Case>;
}
