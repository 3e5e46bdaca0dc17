import { describe, expect, it } from "vitest";
import { FlushQueue, type FlushQueueOptions } from "../../src/iommu/flush-queue.js";
import { VirtualTimeScheduler } from "../../src/kernel/virtual-time-scheduler.js";

const MS = 1_000_000;

function world(options: FlushQueueOptions = {}, flushTakes = 0) {
  const scheduler = new VirtualTimeScheduler();
  const flushes: number[] = [];
  const released: number[] = [];
  const queue = new FlushQueue(
    scheduler,
    async () => {
      flushes.push(scheduler.now);
      await scheduler.sleep(flushTakes);
    },
    options,
  );
  const unmap = (n: number) => queue.queue(() => released.push(n));
  return { scheduler, queue, unmap, flushes, released };
}

describe("FlushQueue", () => {
  it("flushes once, 10 ms after the first unmap, and releases all of them", async () => {
    const { scheduler, queue, unmap, flushes, released } = world();
    await scheduler.run(async () => {
      await unmap(1);
      await scheduler.sleep(6 * MS);
      await unmap(2);
      expect([queue.pending, flushes]).toEqual([2, []]);
      await scheduler.sleep(6 * MS);
      expect([queue.pending, flushes, released]).toEqual([0, [10 * MS], [1, 2]]);
      await scheduler.sleep(100 * MS);
      expect(flushes).toEqual([10 * MS]);
    });
  });

  it("flushes when a ring is full: one of its entries stays empty", async () => {
    const { scheduler, queue, unmap, flushes, released } = world({ size: 4 });
    await scheduler.run(async () => {
      for (let n = 1; n <= 3; n++) await unmap(n);
      expect(flushes).toEqual([]);
      await unmap(4);
      expect([flushes, released, queue.pending]).toEqual([[0], [1, 2, 3], 1]);
    });
  });

  it("keeps a ring per CPU; a flush covers them all", async () => {
    let cpu = 0;
    const { scheduler, queue, unmap, flushes, released } = world({ size: 4, cpus: 2, cpu: () => cpu });
    await scheduler.run(async () => {
      for (let n = 1; n <= 3; n++) await unmap(n);
      cpu = 1;
      for (let n = 11; n <= 13; n++) await unmap(n);
      expect(flushes).toEqual([]);
      await unmap(14);
      // The other CPU's entries are covered, and released when it queues next.
      expect([flushes.length, released, queue.pending]).toEqual([1, [11, 12, 13], 4]);
      cpu = 0;
      await unmap(4);
      expect([flushes.length, released]).toEqual([1, [11, 12, 13, 1, 2, 3]]);
    });
  });

  it("does not count an unmap as covered by a flush that had begun before it", async () => {
    const { scheduler, queue, unmap, released } = world({}, 5 * MS);
    await scheduler.run(async () => {
      await unmap(1);
      await scheduler.sleep(12 * MS);
      await unmap(2);
      await scheduler.sleep(5 * MS);
      expect([released, queue.pending]).toEqual([[1], 1]);
      await scheduler.sleep(20 * MS);
      expect(released).toEqual([1, 2]);
    });
  });

  it("completes on demand, and lets everything go when it is closed", async () => {
    const { scheduler, queue, unmap, flushes, released } = world();
    await scheduler.run(async () => {
      await unmap(1);
      await queue.drain();
      expect(released).toEqual([1]);
      await unmap(2);
      queue.close();
      expect([released, queue.pending]).toEqual([[1, 2], 0]);
      await scheduler.sleep(50 * MS);
      expect(flushes.length).toBe(1);
    });
  });
});
