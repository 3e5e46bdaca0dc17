/** All checkers on one machine. */
import type { Platform, Scheduler, TraceName } from "@iommukit/core";
import type { Finding } from "../finding.js";
import type { Checker, CheckerFactory } from "./checker.js";
import { leaks } from "./leaks.js";

export const CHECKERS: readonly CheckerFactory[] = [leaks];

export class Sanitizer {
  readonly #checkers: readonly Checker[];
  #findings: Finding[] = [];

  constructor(platform: Platform, scheduler: Scheduler, factories: readonly CheckerFactory[] = CHECKERS) {
    const actor = () => scheduler.current?.name ?? "hardware";
    const report = (finding: Finding) => void this.#findings.push(finding);
    this.#checkers = factories.map((make) => make({ platform, actor, report }));
    for (const { listeners } of this.#checkers) {
      for (const [name, listener] of Object.entries(listeners)) {
        platform.trace.on(name as TraceName, listener as (event: unknown) => void);
      }
    }
  }

  begin(): void {
    this.#findings = [];
    for (const checker of this.#checkers) checker.begin();
  }

  /** @param rested everything has ended; what is left then has leaked */
  end(rested: boolean): readonly Finding[] {
    if (rested) for (const checker of this.#checkers) checker.end();
    return this.#findings;
  }
}
