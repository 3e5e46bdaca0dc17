import { describe, expect, it } from "vitest";
import { DeadlockError, Mutex, Tracer, VirtualTimeScheduler, WaitQueue, WorkQueue } from "../../src/index.js";

function world() {
  const scheduler = new VirtualTimeScheduler();
  const trace = new Tracer(() => scheduler.now);
  return { scheduler, trace };
}

describe("VirtualTimeScheduler", () => {
  it("runs threads in turn and lets time pass only when nothing is ready", async () => {
    const { scheduler } = world();
    const seen: string[] = [];
    const worker = (name: string, delay: number) => async () => {
      seen.push(`${name} starts at ${scheduler.now}`);
      await scheduler.sleep(delay);
      seen.push(`${name} ends at ${scheduler.now}`);
    };
    await scheduler.run(async () => {
      scheduler.spawn("a", worker("a", 300));
      scheduler.spawn("b", worker("b", 100));
      await scheduler.sleep(1000);
    });
    expect(seen).toEqual(["a starts at 0", "b starts at 0", "b ends at 100", "a ends at 300"]);
    expect(scheduler.now).toBe(1000);
  });

  it("reports a deadlock with what everybody waits for", async () => {
    const { scheduler, trace } = world();
    const a = new Mutex(scheduler, trace, "A");
    const b = new Mutex(scheduler, trace, "B");
    const both = (first: Mutex, second: Mutex) => async () => {
      await first.lock();
      await scheduler.yield();
      await second.lock();
    };
    const run = scheduler.run(async () => {
      scheduler.spawn("one", both(a, b));
      scheduler.spawn("two", both(b, a));
      await scheduler.park("the end");
    });
    await expect(run).rejects.toThrow(DeadlockError);
    await expect(run).rejects.toThrow("one waits for lock B (held by two)");
  });

  it("refuses to wait outside of a thread", () => {
    expect(() => world().scheduler.park("x")).toThrow("only a thread can wait");
  });

  it("passes an error of the main thread on, and of any other thread", async () => {
    const { scheduler } = world();
    await expect(scheduler.run(async () => Promise.reject(new Error("mine")))).rejects.toThrow("mine");
    await expect(
      scheduler.run(async () => {
        scheduler.spawn("other", async () => {
          throw new Error("theirs");
        });
        await scheduler.sleep(1);
      }),
    ).rejects.toThrow("theirs");
  });

  it("keeps the order of timers, however many others are cancelled, before and after their time", async () => {
    const { scheduler } = world();
    const fired: number[] = [];
    await scheduler.run(async () => {
      const timers = Array.from({ length: 1000 }, (_, i) => scheduler.timer(1000 - i, () => fired.push(i)));
      for (const [i, timer] of timers.entries()) if (i % 10 !== 0) timer.cancel();
      await scheduler.sleep(500);
      for (const timer of timers) timer.cancel();
      await scheduler.sleep(1000);
    });
    expect(fired).toEqual(Array.from({ length: 50 }, (_, i) => 990 - 10 * i));
  });

  it("cancels timers", async () => {
    const { scheduler } = world();
    const fired: number[] = [];
    await scheduler.run(async () => {
      for (const delay of [5, 3, 9, 1, 7]) scheduler.timer(delay, () => fired.push(delay));
      scheduler.timer(4, () => fired.push(4)).cancel();
      await scheduler.sleep(20);
    });
    expect(fired).toEqual([1, 3, 5, 7, 9]);
  });
});

describe("Mutex", () => {
  it("hands over in the order of arrival", async () => {
    const { scheduler, trace } = world();
    const lock = new Mutex(scheduler, trace, "lock");
    const order: number[] = [];
    await scheduler.run(async () => {
      await lock.lock();
      for (let i = 0; i < 3; i++) scheduler.spawn(`t${i}`, () => lock.with(async () => void order.push(i)));
      await scheduler.yield();
      lock.unlock();
      await scheduler.idle();
    });
    expect(order).toEqual([0, 1, 2]);
    expect(lock.held).toBe(false);
  });

  it("is not taken twice by one thread", async () => {
    const { scheduler, trace } = world();
    const lock = new Mutex(scheduler, trace, "lock");
    await expect(scheduler.run(() => lock.with(() => lock.with(() => {})), "program")).rejects.toThrow(
      "program takes it twice",
    );
    expect(lock.held).toBe(false);
  });
});

describe("WaitQueue and WorkQueue", () => {
  it("times out in virtual time", async () => {
    const { scheduler } = world();
    const queue = new WaitQueue(scheduler, "never");
    expect(await scheduler.run(() => queue.waitTimeout(() => false, 1_000_000_000))).toBe(false);
    expect(scheduler.now).toBe(1_000_000_000);
  });

  it("flush waits for what was queued before it and not for what came later", async () => {
    const { scheduler } = world();
    const queue = new WorkQueue(scheduler, "iopf");
    const done: string[] = [];
    const work = (name: string, ns: number) => async () => {
      await scheduler.sleep(ns);
      done.push(name);
    };
    await scheduler.run(async () => {
      queue.queue(work("first", 10));
      scheduler.spawn("late", async () => queue.queue(work("second", 1000)));
      await queue.flush();
      expect(done).toEqual(["first"]);
      await queue.flush();
      expect(done).toEqual(["first", "second"]);
    });
  });
});
