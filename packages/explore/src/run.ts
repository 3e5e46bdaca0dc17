/** One run of a scenario under one chooser, on a machine that may have been used before. */
import { DeadlockError, SlabMemory } from "@iommukit/core";
import type { Finding } from "./finding.js";
import { Sanitizer } from "./sanitizer/sanitizer.js";
import type { Machine, Scenario } from "./scenario.js";
import { type Chooser, DEFAULT_CHOOSER } from "./schedule/chooser.js";
import { ExploringScheduler, LivelockError } from "./schedule/exploring-scheduler.js";
import type { Schedule } from "./schedule/schedule.js";

const RAM = [{ base: 0x1_0000_0000, size: 0x400_0000 }];
const SECOND = 1e9;

export interface RunResult {
  readonly findings: readonly Finding[];
  /** Possibilities at each choice of the run. */
  readonly counts: readonly number[];
  readonly taken: readonly number[];
  readonly steps: number;
}

export class Bench<M extends Machine> {
  readonly sanitizer: Sanitizer;
  /** False when a run has left something behind, or went wrong: the next one needs a new machine. */
  clean = true;

  private constructor(
    private readonly scenario: Scenario<M>,
    readonly machine: M,
    readonly scheduler: ExploringScheduler,
  ) {
    this.sanitizer = new Sanitizer(machine.platform, scheduler);
  }

  static async boot<M extends Machine>(scenario: Scenario<M>, variants: readonly string[]): Promise<Bench<M>> {
    const scheduler = new ExploringScheduler();
    const machine = await scenario.boot({ scheduler, memory: new SlabMemory(RAM), variants });
    const bench = new Bench(scenario, machine, scheduler);
    await bench.#warmUp();
    return bench;
  }

  /** Tables and caches that grow on first use and stay are there before anybody looks for leaks. */
  async #warmUp(): Promise<void> {
    await this.run(DEFAULT_CHOOSER);
    this.clean = true;
  }

  async run(chooser: Chooser): Promise<RunResult> {
    const { scenario, machine, scheduler, sanitizer } = this;
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
    if (findings.length > 0) this.clean = false;
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
    while (left > 0) await scheduler.park("the actors");
  }
}

function findingOf(error: unknown): Finding {
  if (error instanceof DeadlockError) return { rule: "deadlock", what: error.message };
  if (error instanceof LivelockError) return { rule: "livelock", what: error.message };
  return { rule: "throw", what: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

/** The decisions of a run as a schedule: what differs from the default. */
export function scheduleOf(taken: readonly number[]): Schedule {
  return new Map([...taken.entries()].filter(([, option]) => option > 0));
}
