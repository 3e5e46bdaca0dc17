/** The patch as posted: what its defects do, each switched on by name, and that the default does not do it. */
import { DeadlockError, type Device, type Task } from "@iommukit/core";
import { FakePciFunction } from "@iommukit/core/testing";
import { describe, expect, it } from "vitest";
import type { VfioContainer } from "../../src/index.js";
import { A, B, closeClean, containerWith, errnoOf, type Machine, machine } from "../support/machine.js";

const PAIR = ["0000:00:09.0", "0000:00:09.1"];

function pair() {
  return PAIR.map((bdf) => new FakePciFunction(bdf, { config: { 14: 0x80 } }));
}

/** A bound child exits while the container's only user closes everything. */
async function exitDuringClose(m: Machine, task: Task): Promise<void> {
  const container = await containerWith(m, task, [A]);
  const child = m.kernel.spawn({ name: "child" });
  await container.bind({ pid: child.pid });
  const { scheduler } = m.platform;
  const ops = m.ops();
  // The group is being taken off, with iommu->lock held, when the exit begins: mm_exit comes while detach runs.
  ops.delays.svaDeviceShutdown = 5000;
  ops.delays.mmDetach = 5000;
  const close = scheduler.spawn("close", () => task.exit());
  const exit = scheduler.spawn("exit", () => child.exit());
  while (!(close.done && exit.done)) await scheduler.park("both threads");
}

describe("the error path of bind_group (S-1)", () => {
  it("leaves SVA initialised on a group that an earlier BIND step had enabled", async () => {
    for (const [bugs, left] of [
      [["S-1"], 1],
      [[], 0],
    ] as const) {
      const m = await machine({ bugs });
      await m.run(async (task) => {
        const container = await containerWith(m, task, [A, B]);
        m.ops().fail("mmAttach", "ERANGE", 1);
        expect(await errnoOf(container.bind())).toBe("ERANGE");
        const initialised = [A, B].filter((bdf) => m.platform.device(bdf).svaParam !== undefined);
        expect(initialised).toHaveLength(left);
      });
      await m.platform.close();
    }
  });

  it("binds the first device of a group of two before it refuses the second", async () => {
    for (const [bugs, touched] of [
      [["S-1"], true],
      [[], false],
    ] as const) {
      const m = await machine({ bugs, functions: pair() });
      await m.run(async (task) => {
        const container = await containerWith(m, task, [PAIR[0]]);
        expect(await errnoOf(container.bind())).toBe("EINVAL");
        expect(m.ops().calls.some((call) => call.startsWith("mmAttach"))).toBe(touched);
        expect(m.platform.sva.inUse().bonds).toBe(0);
      });
      await closeClean(m);
    }
  });
});

describe("mm_exit and iommu->lock (S-2)", () => {
  it("cannot deadlock: mm_exit takes a lock that nobody holds while he waits", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task, [A]);
      const child = m.kernel.spawn({ name: "child" });
      await container.bind({ pid: child.pid });
      await m.platform.scheduler.idle();
      const { scheduler } = m.platform;
      m.ops().delays.mmExit = 1000;
      scheduler.spawn("exit", () => child.exit());
      scheduler.spawn("close", () => task.exit());
      await scheduler.sleep(1_000_000);
      expect(m.platform.sva.inUse()).toMatchObject({ bonds: 0, pasids: 0 });
    });
    await closeClean(m);
  });

  it("deadlocks as posted: detach waits for mm_exit with the lock that mm_exit takes", async () => {
    const m = await machine({ bugs: ["S-2"] });
    // mm_exit is entered first and then waits for iommu->lock, which the closing thread holds.
    const order = holdDetachUntilExit(m);
    await expect(
      m.run(async (task) => {
        await order(task);
        await exitDuringClose(m, task);
      }),
    ).rejects.toThrow(DeadlockError);
  });
});

/** Makes detach of the group slow enough that the exit reaches mm_exit while iommu->lock is held. */
function holdDetachUntilExit(m: Machine): (task: Task) => Promise<void> {
  return async () => {
    const { sva, scheduler } = m.platform;
    const shutdown = sva.iommuSvaDeviceShutdown.bind(sva);
    Object.assign(sva, {
      iommuSvaDeviceShutdown: async (device: Device) => {
        await scheduler.sleep(10_000);
        await shutdown(device);
      },
    });
  };
}

describe("init of a group's devices (S-4)", () => {
  it("leaves the first device initialised when the second refuses, and fails for ever after", async () => {
    for (const [bugs, again] of [
      [["S-1", "S-4"], "EBUSY"],
      [["S-1"], "EINVAL"],
    ] as const) {
      const m = await machine({ bugs: [...bugs, "S-7"], functions: pair() });
      await m.run(async (task) => {
        const container = await containerWith(m, task, [PAIR[0]]);
        m.ops().fail("svaDeviceInit", "ENODEV", 1);
        expect(await errnoOf(container.bind())).toBe("ENODEV");
        expect(await errnoOf(container.bind())).toBe(again);
      });
      await m.platform.close();
    }
  });
});

describe("the errno of a failed re-attach (S-6)", () => {
  it("is EINVAL as posted, and what the driver said otherwise", async () => {
    for (const [bugs, errno] of [
      [["S-6"], "EINVAL"],
      [[], "ENOMEM"],
    ] as const) {
      const m = await machine({ bugs });
      await m.run(async (task) => {
        const container = await containerWith(m, task, [A]);
        // Attaching to the shared domain fails, and so does going back.
        const attach = m.ops().attachDev.bind(m.ops());
        let attempts = 0;
        m.ops().attachDev = async (domain, dev) => {
          if (dev.name === B && ++attempts > 1 && domain.type === "unmanaged") m.ops().fail("attachDev", "ENOMEM");
          return attach(domain, dev);
        };
        expect(await errnoOf(container.attach(m.group(B)))).toBe(errno);
        m.ops().attachDev = attach;
      });
      await m.platform.close();
    }
  });
});

describe("references of the container's list (S-9)", () => {
  it("keeps the struct of a bound address space until UNBIND", async () => {
    for (const [bugs, held] of [
      [["S-9"], 0],
      [[], 1],
    ] as const) {
      const m = await machine({ bugs });
      await m.run(async (task) => {
        const container: VfioContainer = await containerWith(m, task, [A]);
        const before = task.mm?.mmCount ?? 0;
        await container.bind();
        const bound = (task.mm?.mmCount ?? 0) - before;
        await container.unbind();
        // One reference is the io_mm's own, which goes with the last bond.
        expect(bound - 1).toBe(held);
        await m.platform.scheduler.idle();
      });
      await closeClean(m);
    }
  });
});
