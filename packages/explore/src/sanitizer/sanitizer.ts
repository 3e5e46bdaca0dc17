/** All checkers on one machine. */
import type { Platform, TraceName } from "@iommukit/core";
import type { Finding } from "../finding.js";
import type { ExploringScheduler } from "../schedule/exploring-scheduler.js";
import { accounting } from "./accounting.js";
import type { Checker, CheckerFactory } from "./checker.js";
import { domainTranslations } from "./domain-translations.js";
import { entryCaches } from "./entry-caches.js";
import { freedMemory } from "./freed-memory.js";
import { invalidationOrder } from "./invalidation-order.js";
import { leaks } from "./leaks.js";
import { lockOrder } from "./lock-order.js";
import { pageResponses } from "./page-responses.js";
import { pasidReuse } from "./pasid-reuse.js";
import { processTranslations } from "./process-translations.js";
import { tornEntries } from "./torn-entries.js";

/** Those that a Sanitizer has. */
export const CHECKERS: readonly CheckerFactory[] = [
  freedMemory,
  processTranslations,
  domainTranslations,
  pageResponses,
  pasidReuse,
  accounting,
  lockOrder,
  tornEntries,
  invalidationOrder,
  entryCaches,
  leaks,
];

/** What a sanitizer hears of a scheduler: who goes to sleep. Others than the exploring one do not tell. */
export type Watchable = Pick<ExploringScheduler, "onPark">;

/** Watches a platform from its making on; whoever needs findings at once sets `onFinding`. */
export class Sanitizer {
  readonly checkers: readonly Checker[];
  #findings: Finding[] = [];
  /** Told when a rule is broken, at that moment. */
  onFinding: ((finding: Finding) => void) | undefined;

  constructor(platform: Platform, scheduler: Watchable, factories: readonly CheckerFactory[] = CHECKERS) {
    const sleepers: ((thread: string, reason: string) => void)[] = [];
    scheduler.onPark = ({ name }, reason) => {
      for (const listener of sleepers) listener(name, reason);
    };
    const watched = {
      platform,
      parked: (listener: (thread: string, reason: string) => void) => void sleepers.push(listener),
      report: (finding: Finding) => {
        this.#findings.push(finding);
        this.onFinding?.(finding);
      },
    };
    this.checkers = factories.map((make) => make(watched));
    for (const { listeners } of this.checkers) {
      for (const [name, listener] of Object.entries(listeners)) {
        platform.trace.on(name as TraceName, listener as (event: unknown) => void);
      }
    }
  }

  begin(): void {
    this.#findings = [];
    for (const checker of this.checkers) checker.begin();
  }

  /** @param rested everything has ended; what is left then has leaked */
  end(rested: boolean): readonly Finding[] {
    if (rested) for (const checker of this.checkers) checker.end();
    return this.#findings;
  }
}
