import { describe, expect, it } from "vitest";
import { Srcu, VirtualTimeScheduler } from "../../src/index.js";

describe("Srcu", () => {
  it("frees after the readers of now, in the order of the calls, and does not wait for later ones", async () => {
    const scheduler = new VirtualTimeScheduler();
    const srcu = new Srcu(scheduler, "test");
    const freed: string[] = [];
    const free = (what: string) => () => void freed.push(`${what} at ${scheduler.now}`);
    await scheduler.run(async () => {
      scheduler.spawn("early", () => srcu.read(() => scheduler.sleep(100)));
      await scheduler.yield();
      srcu.call(free("a"));
      scheduler.spawn("late", () => srcu.read(() => scheduler.sleep(1000)));
      await scheduler.sleep(10);
      srcu.call(free("b"));
      await scheduler.sleep(10_000);
    });
    expect(freed).toEqual(["a at 100", "b at 1000"]);
  });

  it("frees at once, but never in the caller, when nobody reads", async () => {
    const scheduler = new VirtualTimeScheduler();
    const srcu = new Srcu(scheduler, "test");
    let freed = false;
    await scheduler.run(async () => {
      srcu.call(() => {
        freed = true;
      });
      expect(freed).toBe(false);
      await scheduler.idle();
      expect(freed).toBe(true);
    });
  });

  it("ends the reader's section when its body throws", async () => {
    const scheduler = new VirtualTimeScheduler();
    const srcu = new Srcu(scheduler, "test");
    let freed = false;
    await scheduler.run(async () => {
      await expect(srcu.read(() => Promise.reject(new Error("body")))).rejects.toThrow("body");
      srcu.call(() => {
        freed = true;
      });
      await scheduler.idle();
    });
    expect(freed).toBe(true);
  });
});
