import { DeadlockError, type HardwareUnit, Mutex, Tracer } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import {
  type Chooser,
  DEFAULT_CHOOSER,
  ExhaustiveSearch,
  ExploringScheduler,
  LivelockError,
  parseSchedule,
  RandomChooser,
  ReplayChooser,
} from "../src/index.js";

/** Two threads that say where they are, with a point between. */
async function twoThreads(scheduler: ExploringScheduler): Promise<string> {
  let said = "";
  await scheduler.run(async () => {
    const threads = ["a", "b"].map((name) =>
      scheduler.spawn(name, async () => {
        said += `${name}1`;
        await scheduler.point("between");
        said += `${name}2`;
      }),
    );
    await scheduler.idle();
    expect(threads.every(({ done }) => done)).toBe(true);
  });
  return said;
}

describe("the exploring scheduler", () => {
  it("runs each thread until it blocks unless somebody decides otherwise", async () => {
    const scheduler = new ExploringScheduler();
    scheduler.explore(DEFAULT_CHOOSER);
    expect(await twoThreads(scheduler)).toBe("a1a2b1b2");
  });

  it("lets an exhaustive search see every order of two threads", async () => {
    const search = new ExhaustiveSearch(3);
    const seen: string[] = [];
    for (let chooser = search.next(); chooser; chooser = search.next()) {
      const scheduler = new ExploringScheduler();
      scheduler.explore(chooser);
      seen.push(await twoThreads(scheduler));
      search.done({ findings: [], ...scheduler.decisions, steps: scheduler.steps });
    }
    const orders = ["a1a2b1b2", "a1b1a2b2", "a1b1b2a2", "b1a1a2b2", "b1a1b2a2", "b1b2a1a2"];
    expect([...new Set(seen)].sort()).toEqual(orders);
  });

  it("does the same again for the same schedule", async () => {
    for (let seed = 1; seed < 50; seed++) {
      const first = new ExploringScheduler();
      first.explore(new RandomChooser(seed));
      const said = await twoThreads(first);
      const taken = first.decisions.taken.flatMap((option, at) => (option > 0 ? [`${at}:${option}`] : []));
      const second = new ExploringScheduler();
      second.explore(new ReplayChooser(parseSchedule(taken.join(","))));
      expect(await twoThreads(second)).toBe(said);
    }
  });

  it("makes a kicked unit an actor that works step by step", async () => {
    const scheduler = new ExploringScheduler();
    const log: string[] = [];
    let left = 2;
    const step = () => {
      log.push("step");
      return --left > 0;
    };
    const unit: HardwareUnit = { name: "queue", step };
    scheduler.explore(new ReplayChooser(parseSchedule("0:1")));
    await scheduler.run(async () => {
      scheduler.kick(unit);
      scheduler.kick(unit);
      log.push("kicked");
      await scheduler.point("poll");
      log.push("polled");
    });
    expect(log).toEqual(["kicked", "step", "step", "polled"]);
  });

  it("offers a point before a lock, and names who waits for whom in a deadlock", async () => {
    const run = async (chooser: Chooser) => {
      const scheduler = new ExploringScheduler();
      const trace = new Tracer(() => scheduler.now);
      const [x, y] = ["x", "y"].map((name) => new Mutex(scheduler, trace, name));
      scheduler.explore(chooser);
      await scheduler.run(async () => {
        scheduler.spawn("a", () => x.with(() => y.with(() => {})));
        scheduler.spawn("b", () => y.with(() => x.with(() => {})));
        await scheduler.idle();
        if (scheduler.waiting.length > 0) await scheduler.park("both");
      });
      return scheduler;
    };
    const deadlocks: string[] = [];
    const search = new ExhaustiveSearch(1);
    for (let chooser = search.next(); chooser; chooser = search.next()) {
      try {
        const { decisions, steps } = await run(chooser);
        search.done({ findings: [], ...decisions, steps });
      } catch (error) {
        if (!(error instanceof DeadlockError)) throw error;
        deadlocks.push(String(error));
      }
    }
    expect(deadlocks).not.toEqual([]);
    for (const deadlock of deadlocks) {
      expect(deadlock).toContain("a waits for lock y (held by b)");
      expect(deadlock).toContain("b waits for lock x (held by a)");
    }
  });

  it("ends a run that does not end", async () => {
    const scheduler = new ExploringScheduler();
    scheduler.explore(DEFAULT_CHOOSER, 100);
    const endless = scheduler.run(async () => {
      for (;;) await scheduler.sleep(1);
    });
    await expect(endless).rejects.toThrow(LivelockError);
  });
});
