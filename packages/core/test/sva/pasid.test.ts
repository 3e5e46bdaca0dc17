import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PASID_MAX, PasidAllocator } from "../../src/index.js";
import { FakeIommu } from "../../src/testing/index.js";
import { IOPF, machine } from "./machine.js";

describe("PasidAllocator", () => {
  it.each([
    [0, 0, 0],
    [0, 5, 1],
    [1, 5, 1],
    [31, 40, 31],
    [32, 32, 32],
    [0xffff, PASID_MAX, 0xffff],
  ])("gives the lowest free value of [%i, %i]: %i (D1)", (min, max, pasid) => {
    expect(new PasidAllocator().alloc(min, max)).toBe(pasid);
  });

  it("has 31 bits, the largest included (D1)", () => {
    expect(PASID_MAX).toBe(2 ** 31 - 1);
  });

  it("includes both ends of the range, then answers ENOSPC (D1)", () => {
    const pasids = new PasidAllocator();
    const given = Array.from({ length: 64 }, () => pasids.alloc(30, 93));
    expect(given).toEqual(Array.from({ length: 64 }, (_, i) => 30 + i));
    expect(() => pasids.alloc(30, 93)).toThrow("ENOSPC");
    expect(pasids.used).toBe(64);
  });

  it("gives all of 20 bits without a search through those that are taken", () => {
    const pasids = new PasidAllocator();
    let inOrder = true;
    for (let pasid = 1; pasid < 2 ** 20; pasid++) inOrder = pasids.alloc(0, 0xf_ffff) === pasid && inOrder;
    expect(inOrder).toBe(true);
    expect(pasids.alloc(0, 0xf_ffff)).toBe(0);
    expect(() => pasids.alloc(0, 0xf_ffff)).toThrow("ENOSPC");
  });

  it("refuses to free twice", () => {
    const pasids = new PasidAllocator();
    pasids.free(pasids.alloc(1, 9));
    expect(() => pasids.free(1)).toThrow("PASID 1 is freed twice");
  });

  it("answers as a plain set does (D1)", () => {
    const step = fc.oneof(
      fc.record({ min: fc.integer({ min: 0, max: 80 }), span: fc.integer({ min: 0, max: 80 }) }),
      fc.record({ free: fc.nat() }),
    );
    const property = fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const pasids = new PasidAllocator();
      const model = new Set<number>();
      for (const action of steps) {
        if ("free" in action) {
          const victim = [...model][action.free % Math.max(model.size, 1)];
          if (victim === undefined) continue;
          model.delete(victim);
          pasids.free(victim);
          continue;
        }
        const max = action.min + action.span;
        const range = Array.from({ length: action.span + 1 }, (_, i) => action.min + i);
        const order = range[0] === 0 ? [...range.slice(1), 0] : range;
        const expected = order.find((pasid) => !model.has(pasid));
        if (expected !== undefined) model.add(expected);
        if (allocate(pasids, action.min, max) !== expected || pasids.used !== model.size) return false;
      }
      return true;
    });
    expect(fc.check(property, { numRuns: 300 }).failed).toBe(false);
  });
});

/** @returns undefined for ENOSPC */
function allocate(pasids: PasidAllocator, min: number, max: number): number | undefined {
  try {
    return pasids.alloc(min, max);
  } catch {
    return undefined;
  }
}

describe("PASID", () => {
  it("0 is given last, because a process behind both kinds of IOMMU has one value and Arm keeps 0 (D2)", async () => {
    const { run, sva, svaDevice, scheduler, mm } = machine();
    await run(async () => {
      const vtd = new FakeIommu(scheduler, "vtd");
      vtd.ops.minPasid = 0;
      const arm = await svaDevice("0000:01:00.0");
      const intel = await svaDevice("0001:01:00.0", { behind: vtd });
      const process = mm();
      expect(await sva.bindDeviceLocked(intel, process, IOPF)).toBe(1);
      expect(await sva.bindDeviceLocked(arm, process, IOPF)).toBe(1);
      expect(await sva.bindDeviceLocked(arm, mm(), IOPF)).toBe(2);
    });
  });

  it("is not reused before all queues have been drained of it, and then at once (D3) (I-3) (L-13)", async () => {
    const { run, sva, svaDevice, scheduler, ops, events, mm } = machine();
    await run(async () => {
      const dev = await svaDevice();
      const old = mm();
      const pasid = await sva.bindDeviceLocked(dev, old, IOPF);
      old.faultDelay = 1000;
      const fault = { pasid, grpid: 7, address: 0x10000n, perm: 1, last: true, responseNeedsPasid: true };
      // One request waits in the hardware queue: it comes out when the queue is drained.
      let queued = true;
      sva.registerQueueFlush(dev, async () => {
        if (queued) sva.report(dev, fault);
        queued = false;
      });
      scheduler.spawn("unbind", () => sva.unbindDeviceLocked(dev, pasid));
      await scheduler.sleep(10);
      const second = mm();
      expect(await sva.bindDeviceLocked(dev, second, IOPF)).toBe(pasid + 1);
      await scheduler.sleep(5000);
      expect(ops.responses.map(({ grpid, code }) => [grpid, code])).toEqual([[7, "success"]]);
      expect(await sva.bindDeviceLocked(dev, mm(), IOPF)).toBe(pasid);
      const order = events
        .map(({ name }) => name)
        .filter((name) => /iopf:answered|bond:removed|pasid:freed/.test(name));
      expect(order).toEqual(["iopf:answered", "bond:removed", "pasid:freed"]);
    });
  });

  it("reaches the next process with an old request when nobody drains the queues (L-13) (S-18)", async () => {
    const { run, sva, svaDevice, scheduler, mm } = machine(["L-13"]);
    await run(async () => {
      const dev = await svaDevice();
      const pasid = await sva.bindDeviceLocked(dev, mm(), IOPF);
      const fault = { pasid, grpid: 7, address: 0x10000n, perm: 1, last: true, responseNeedsPasid: true };
      await sva.unbindDeviceLocked(dev, pasid);
      const second = mm();
      expect(await sva.bindDeviceLocked(dev, second, IOPF)).toBe(pasid);
      sva.report(dev, fault);
      await scheduler.idle();
      expect(second.faults).toEqual(["0x10000 1"]);
    });
  });

  it("is free before the hardware has forgotten it, with the seed's order (S-18)", async () => {
    for (const [bugs, reused] of [
      [[], false],
      [["S-18"], true],
    ] as const) {
      const { run, sva, svaDevice, scheduler, ops, mm } = machine(bugs);
      await run(async () => {
        const dev = await svaDevice();
        const pasid = await sva.bindDeviceLocked(dev, mm(), IOPF);
        ops.delays.mmDetach = 1000;
        scheduler.spawn("unbind", () => sva.unbindDeviceLocked(dev, pasid));
        await scheduler.sleep(10);
        expect((await sva.bindDeviceLocked(dev, mm(), IOPF)) === pasid).toBe(reused);
      });
    }
  });

  it("is free while a dying process is still programmed, with mainline's old __mmput (L-3)", async () => {
    for (const [bugs, reused] of [
      [[], false],
      [["L-3"], true],
    ] as const) {
      const { run, sva, svaDevice, scheduler, mm } = machine(bugs);
      await run(async () => {
        const dev = await svaDevice("0000:01:00.0", {
          mmExit: async () => {
            await scheduler.sleep(1000);
            return 0;
          },
        });
        const dying = mm();
        const pasid = await sva.bindDeviceLocked(dev, dying, IOPF);
        scheduler.spawn("exit", () => dying.mmput());
        await scheduler.sleep(10);
        expect((await sva.bindDeviceLocked(dev, mm(), IOPF)) === pasid).toBe(reused);
      });
    }
  });

  it("forgets parked requests with the bond: the next process with that PASID gets none of them (D3)", async () => {
    const { run, sva, svaDevice, scheduler, mm } = machine();
    await run(async () => {
      const dev = await svaDevice();
      const pasid = await sva.bindDeviceLocked(dev, mm(), IOPF);
      const fault = { pasid, grpid: 7, address: 0x10000n, perm: 1, last: false, responseNeedsPasid: true };
      sva.report(dev, fault);
      sva.report(dev, { ...fault, pasid: pasid + 1 });
      await sva.unbindDeviceLocked(dev, pasid);
      expect(sva.inUse().partials).toBe(1);
      const second = mm();
      await sva.bindDeviceLocked(dev, second, IOPF);
      sva.report(dev, { ...fault, address: 0x11000n, last: true });
      await scheduler.idle();
      expect(second.faults).toEqual(["0x11000 1"]);
    });
  });
});
