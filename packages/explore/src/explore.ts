/** A campaign: runs a scenario under a search until something is found or nothing is left, and shrinks what is found. */
import type { Finding } from "./finding.js";
import { Bench, type RunResult, scheduleOf } from "./run.js";
import type { Machine, Scenario } from "./scenario.js";
import type { Chooser } from "./schedule/chooser.js";
import { ReplayChooser } from "./schedule/replay-chooser.js";
import { formatSchedule, type Schedule } from "./schedule/schedule.js";
import { ExhaustiveSearch } from "./search/exhaustive-search.js";
import type { Search } from "./search/search.js";
import { shrink } from "./search/shrink.js";
import { Timeline, type TimelineReport } from "./timeline/timeline.js";

/** What was found, shrunk. */
export interface Discovery {
  readonly findings: readonly Finding[];
  /** Shrunk, as text for `replay`. */
  readonly schedule: string;
  /** Differences from the default schedule before and after shrinking. */
  readonly found: number;
  readonly shrunk: number;
}

/** How a search ended. */
export interface Campaign {
  readonly scenario: string;
  readonly schedules: number;
  /** Nothing is left to try within the search's bounds. */
  readonly complete: boolean;
  readonly discovery?: Discovery;
}

/** For `explore`. */
export interface ExploreOptions {
  readonly variants?: readonly string[];
  /** Ends the campaign when it says so, between two runs. */
  readonly stop?: () => boolean;
}

/** V8 has a limit of frames; where there is none, setting it does nothing. */
const ERROR: ErrorConstructor & { stackTraceLimit?: number } = Error;

/** Schedules with few switches that are tried when one with more has been found. */
const NEIGHBOURS = 2000;

/** Runs on one machine before it is made anew. */
const REUSE = 4096;

/** Runs until something is found, the search has nothing left, or `stop` says so. It is `exploreAll` that throws what it finds. */
export async function explore<M extends Machine>(
  scenario: Scenario<M>,
  search: Search,
  { variants = [], stop = () => false }: ExploreOptions = {},
): Promise<Campaign> {
  const laboratory = new Laboratory(scenario, variants, search.prunes);
  let schedules = 0;
  for (let chooser = search.next(); chooser && !stop(); chooser = search.next()) {
    const result = await laboratory.run(chooser);
    schedules++;
    if (result.findings.length > 0) {
      const discovery = await laboratory.examine(result);
      return { scenario: scenario.name, schedules, complete: false, discovery };
    }
    search.done(result);
  }
  return { scenario: scenario.name, schedules, complete: search.next() === undefined };
}

/** Machines of one scenario: used again as long as they come out of a run as they went in. */
export class Laboratory<M extends Machine> {
  #bench: Bench<M> | undefined;
  #runs = 0;

  constructor(
    private readonly scenario: Scenario<M>,
    private readonly variants: readonly string[] = [],
    private readonly states = false,
  ) {}

  /**
   * Errors of the run have no stacks: a refusal's takes longer than what is refused. A run never leaves the current task, so nobody
   * else meets that; what is found is replayed with stacks.
   */
  async run(chooser: Chooser): Promise<RunResult> {
    if (!this.#bench?.clean || this.#runs++ >= REUSE) {
      this.#bench = await Bench.boot(this.scenario, this.variants, this.states);
      this.#runs = 1;
    }
    const { stackTraceLimit } = ERROR;
    ERROR.stackTraceLimit = 0;
    try {
      return await this.#bench.run(chooser);
    } finally {
      ERROR.stackTraceLimit = stackTraceLimit;
    }
  }

  /** One schedule on a machine that nobody has used. */
  async replay(schedule: Schedule): Promise<RunResult> {
    const bench = await Bench.boot(this.scenario, this.variants);
    return bench.run(new ReplayChooser(schedule));
  }

  /** As replay, with what happened; `renderTimeline` makes text of it. */
  async show(schedule: Schedule): Promise<{ readonly result: RunResult; readonly timeline: TimelineReport }> {
    const bench = await Bench.boot(this.scenario, this.variants);
    const timeline = new Timeline(bench.machine.platform, bench.scheduler);
    bench.sanitizer.onFinding = (finding) => timeline.broken(finding);
    const result = await bench.run(new ReplayChooser(schedule));
    timeline.stop();
    return { result, timeline: timeline.report(result.findings) };
  }

  async examine(result: RunResult): Promise<Discovery> {
    const { rule } = result.findings[0];
    const schedule = scheduleOf(result.taken);
    const fails = async (tried: Schedule) =>
      (await this.replay(tried)).findings.some((finding) => finding.rule === rule);
    if (!(await fails(schedule))) {
      const findings = result.findings.map((finding) => ({
        ...finding,
        what: `${finding.what}; seen on a machine that had been used before, not on a new one`,
      }));
      return { findings, schedule: formatSchedule(schedule), found: schedule.size, shrunk: schedule.size };
    }
    const shorter = await shrink(schedule, fails);
    const shrunk = shorter.size > 1 ? ((await this.#fewest(shorter.size - 1, rule, fails)) ?? shorter) : shorter;
    const { findings } = await this.replay(shrunk);
    return { findings, schedule: formatSchedule(shrunk), found: schedule.size, shrunk: shrunk.size };
  }

  /** Leaving something out moves all later choices, so a walk that shrinks no further may still have a shorter neighbour. */
  async #fewest(
    most: number,
    rule: string,
    fails: (schedule: Schedule) => Promise<boolean>,
  ): Promise<Schedule | undefined> {
    const search = new ExhaustiveSearch(Math.min(most, 2));
    for (let left = NEIGHBOURS; left > 0; left--) {
      const chooser = search.next();
      if (!chooser) return undefined;
      const result = await this.run(chooser);
      const schedule = scheduleOf(result.taken);
      if (result.findings.some((finding) => finding.rule === rule) && (await fails(schedule))) return schedule;
      search.done(result);
    }
    return undefined;
  }
}
