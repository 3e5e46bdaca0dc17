/** For tests of one's own drivers: a scenario holds under every schedule that is tried, or the test fails with the shortest one. */
import { explore, Laboratory } from "./explore.js";
import { findingLines } from "./finding.js";
import type { Machine, Scenario } from "./scenario.js";
import { parseSchedule } from "./schedule/schedule.js";
import { ExhaustiveSearch } from "./search/exhaustive-search.js";
import { RandomSearch, WHOLE } from "./search/random-search.js";
import { renderTimeline } from "./timeline/render.js";

/** For `exploreAll`. */
export interface ExploreAllOptions {
  /** Every schedule with at most so many choices that differ from the default; 2 when absent. */
  readonly bound?: number;
  /** Schedules that only exchange steps which have nothing to do with each other are left out. */
  readonly prune?: boolean;
  /** Random schedules after these; 500 when absent. */
  readonly runs?: number;
  readonly seed?: number;
  readonly variants?: readonly string[];
}

/**
 * @returns how many schedules were tried
 * @throws Error a rule is broken: what, the schedule to replay, and the run as a timeline
 */
export async function exploreAll<M extends Machine>(
  scenario: Scenario<M>,
  { bound = 2, prune, runs = 500, seed = 1, variants = [] }: ExploreAllOptions = {},
): Promise<number> {
  let schedules = 0;
  for (const search of [new ExhaustiveSearch(bound, WHOLE, prune), new RandomSearch(seed, runs)]) {
    const campaign = await explore(scenario, search, { variants });
    schedules += campaign.schedules;
    const { discovery } = campaign;
    if (!discovery) continue;
    const { timeline } = await new Laboratory(scenario, variants).show(parseSchedule(discovery.schedule));
    const found = findingLines(discovery.findings).join("\n");
    throw new Error(`${scenario.name}, schedule "${discovery.schedule}":\n${found}\n\n${renderTimeline(timeline)}`);
  }
  return schedules;
}
