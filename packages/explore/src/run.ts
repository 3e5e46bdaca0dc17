/** One run of a scenario under one chooser, on a machine that may have been used before. */
import { DeadlockError } from "@iommukit/core";
import type { Finding } from "./finding.js";
import { VersionedMemory } from "./memory/versioned-memory.js";
import { History } from "./reduction/history.js";
import { WatchedSocket } from "./reduction/watched-socket.js";
import { watchTrace } from "./reduction/watched-trace.js";
import { Sanitizer } from "./sanitizer/sanitizer.js";
import type { Machine, Scenario } from "./scenario.js";
import { isThread } from "./schedule/actor.js";
import { type Chooser, DEFAULT_CHOOSER } from "./schedule/chooser.js";
import { ExploringScheduler, LivelockError } from "./schedule/exploring-scheduler.js";
import { ReplayChooser } from "./schedule/replay-chooser.js";
import type { Schedule } from "./schedule/schedule.js";

const RAM = [{ base: 0x1_0000_0000, size: 0x400_0000 }];
/** Freed pages are filled with this, and stay out of use while so many others are freed. */
const PAGES = { poison: 0x6b, quarantine: 256 };
/** Commands that complete when every fetch before them has. */
const SYNCHRONISATIONS: ReadonlySet<string> = new Set(["CMD_SYNC", "inv_wait_dsc"]);
/** Caches of entries. What was fetched before one is invalidated is not put into it afterwards: such a fetch is over as well. */
const ENTRY_CACHES: ReadonlySet<string> = new Set(["config", "context", "pasid"]);
const SECOND = 1e9;
/** What the explorer's own thread waits for. */
export const ACTORS = "the actors";

/** What came of one run. */
export interface RunResult {
  readonly findings: readonly Finding[];
  /** Possibilities at each choice of the run. */
  readonly counts: readonly number[];
  readonly taken: readonly number[];
  readonly steps: number;
  /** State before each choice, when states were asked for: equal only where the run can go on in the same ways. */
  readonly states: readonly number[];
}

/** A scenario's machine, and runs on it. */
export class Bench<M extends Machine> {
  readonly sanitizer: Sanitizer;
  /** False when a run has left something behind, or went wrong: the next one needs a new machine. */
  clean = true;

  private constructor(
    private readonly scenario: Scenario<M>,
    readonly machine: M,
    readonly scheduler: ExploringScheduler,
    private readonly memory: VersionedMemory,
  ) {
    this.sanitizer = new Sanitizer(machine.platform, scheduler);
  }

  /**
   * A machine on which the default schedule has run once, so that tables and caches that grow on first use are there and each run
   * meets the same; as it is out of the box when that run itself finds something.
   */
  static async boot<M extends Machine>(
    scenario: Scenario<M>,
    variants: readonly string[],
    states = false,
  ): Promise<Bench<M>> {
    const bench = await Bench.#boot(scenario, variants, states);
    if (scenario.oneShot) return bench;
    const { findings } = await bench.#once(DEFAULT_CHOOSER);
    if (findings.some(({ rule }) => rule !== "leak")) return Bench.#boot(scenario, variants, states);
    bench.clean = true;
    return bench;
  }

  static async #boot<M extends Machine>(
    scenario: Scenario<M>,
    variants: readonly string[],
    states: boolean,
  ): Promise<Bench<M>> {
    const scheduler = new ExploringScheduler();
    const memory = new VersionedMemory(RAM, (count, what) => scheduler.choose(count, what));
    scheduler.onSuspend = (thread) => {
      thread.stoppedAt = memory.clock;
    };
    scheduler.onSwitch = (actor) => memory.overlap(isThread(actor) ? actor.stoppedAt : memory.clock);
    const fails = (what: string) => scheduler.choose(2, `no memory for ${what}`) === 1;
    const pages = scenario.allocationsFail ? { ...PAGES, failAlloc: fails } : PAGES;
    const history = states ? new History(memory) : undefined;
    const socket = history && new WatchedSocket(history);
    const machine = await scenario.boot({ scheduler, memory, variants, pages, socket });
    if (scenario.allocationsFail) machine.platform.kernel.allocationFails = fails;
    machine.platform.trace.on("command:consumed", ({ command }) => {
      if (SYNCHRONISATIONS.has(command)) memory.orderingPoint();
    });
    machine.platform.trace.on("cache:invalidated", ({ cache }) => {
      if (ENTRY_CACHES.has(cache)) memory.orderingPoint();
    });
    const bench = new Bench(scenario, machine, scheduler, memory);
    if (history) {
      socket?.expect(machine.platform.iommus);
      watchTrace(history, machine.platform.trace, bench.sanitizer.checkers);
      memory.history = history;
      scheduler.history = history;
    }
    return bench;
  }

  /**
   * A leak has to show again when the same is done once more: drivers keep some tables from their first use on, and that is
   * none.
   */
  async run(chooser: Chooser): Promise<RunResult> {
    const first = await this.#once(chooser);
    const others = first.findings.filter(({ rule }) => rule !== "leak");
    if (first.findings.length === 0 || others.length > 0 || this.scenario.oneShot)
      return { ...first, findings: others };
    this.clean = true;
    const second = await this.#once(new ReplayChooser(scheduleOf(first.taken)));
    return { ...second, counts: first.counts, taken: first.taken, states: first.states };
  }

  async #once(chooser: Chooser): Promise<RunResult> {
    const { scenario, machine, scheduler, memory, sanitizer } = this;
    const { platform } = machine;
    const start = scheduler.now;
    sanitizer.begin();
    let check: (() => readonly string[]) | undefined;
    let failure: Finding | undefined;
    try {
      await platform.run(async () => {
        const one = await scenario.prepare(machine);
        check = one.check;
        await scheduler.idle();
        // Nothing is under way.
        memory.orderingPoint();
        scheduler.explore(chooser);
        await this.#together(one.actors);
        await scheduler.idle();
        scheduler.rest();
        await one.settle?.();
        await scheduler.idle();
      });
    } catch (error) {
      failure = findingOf(error);
    }
    scheduler.rest();
    const findings = [...sanitizer.end(failure === undefined)];
    if (failure) findings.push(failure);
    else {
      const limit = scenario.timeLimit ?? SECOND;
      const time = scheduler.now - start;
      if (time > limit) findings.push({ rule: "time", what: `the run took ${time} ns; ${limit} ns are plenty` });
      for (const what of check?.() ?? []) findings.push({ rule: "scenario", what });
    }
    if (findings.length > 0 || scenario.oneShot) this.clean = false;
    return { findings, ...scheduler.decisions, steps: scheduler.steps };
  }

  /** Runs all at once and waits for the last; what one throws ends the run. */
  async #together(actors: Readonly<Record<string, () => Promise<unknown>>>): Promise<void> {
    const { scheduler } = this;
    const waiter = scheduler.current;
    let left = 0;
    for (const [name, body] of Object.entries(actors)) {
      left++;
      scheduler.spawn(name, async () => {
        await body();
        if (--left === 0 && waiter) scheduler.wake(waiter);
      });
    }
    while (left > 0) await scheduler.park(ACTORS);
  }
}

function findingOf(error: unknown): Finding {
  if (error instanceof DeadlockError)
    return {
      rule: "deadlock",
      what: error.threads
        .filter(({ waitsFor }) => waitsFor !== ACTORS)
        .map(({ name, waitsFor }) => `${name} waits for ${waitsFor}`)
        .join("; "),
    };
  if (error instanceof LivelockError) return { rule: "livelock", what: error.message };
  return { rule: "throw", what: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

/** The decisions of a run as a schedule: what differs from the default. */
export function scheduleOf(taken: readonly number[]): Schedule {
  return new Map([...taken.entries()].filter(([, option]) => option > 0));
}
