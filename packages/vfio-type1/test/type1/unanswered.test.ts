/** What cannot be refused: an unmap, a close, an exit. Hardware that does not answer goes to the log, and nothing is kept. */
import type { FakeOp } from "@iommukit/core/testing";
import { describe, expect, it } from "vitest";
import { VfioContainer } from "../../src/index.js";
import { A, B, closeClean, containerWith, errnoOf, machine, memory, PAGE } from "../support/machine.js";

const OPS = ["attachDev", "detachDev", "iotlbSync", "mmDetach", "mmExit", "svaDeviceShutdown"] as const;

describe.each(OPS.flatMap((op) => [0, 1, 2].map((skip) => [op, skip] as const)))(
  "%s fails after %i calls",
  (op, skip) => {
    it("while a group leaves and a program ends", async () => {
      const m = await machine();
      await m.run(async (task) => {
        const container = await VfioContainer.open(task);
        const group = await container.attach(m.group(A));
        await container.attach(m.group(B));
        await container.setIommu();
        await container.mapDma({ iova: 0n, vaddr: await memory(task, 2), size: 2n * PAGE });
        await container.bind();
        m.ops().fail(op, "ETIMEDOUT", skip);
        expect(await errnoOf(group.unsetContainer())).toBe("success");
        expect(await errnoOf(task.exit())).toBe("success");
        expect(m.platform.sva.inUse()).toMatchObject({ bonds: 0, pasids: 0 });
      });
      await closeClean(m);
      for (const line of m.kernel.log) expect(line).toMatch(/failed: ETIMEDOUT|possible leak of PASID/);
    });
  },
);

it.each(["map", "iotlbSyncMap"] satisfies FakeOp[])(
  "a MAP of which one IOMMU's %s fails leaves nothing in the other",
  async (op) => {
    const m = await machine({ iommus: 2, devices: [A, "0001:00:05.0"] });
    await m.run(async (task) => {
      const container = await containerWith(m, task, [A, "0001:00:05.0"]);
      const vaddr = await memory(task, 2);
      // The newest domain is mapped first.
      m.ops(0).fail(op, "ENOMEM");
      m.ops(1).fail("iotlbSync", "ETIMEDOUT");
      expect(await errnoOf(container.mapDma({ iova: 0n, vaddr, size: 2n * PAGE }))).toBe("ENOMEM");
      expect([m.domainOf(A).pages.size, m.domainOf("0001:00:05.0").pages.size, task.mm?.lockedVm]).toEqual([0, 0, 0]);
      await container.mapDma({ iova: 0n, vaddr, size: 2n * PAGE });
    });
    await closeClean(m);
  },
);

it("an UNMAP that the IOMMU does not hear of takes the mapping away all the same", async () => {
  const m = await machine();
  await m.run(async (task) => {
    const container = await containerWith(m, task);
    await container.mapDma({ iova: 0n, vaddr: await memory(task, 2), size: 2n * PAGE });
    m.ops().fail("iotlbSync", "ETIMEDOUT");
    expect(await container.unmapDma({ iova: 0n, size: 2n * PAGE })).toBe(2n * PAGE);
    expect([m.domainOf(A).pages.size, task.mm?.lockedVm]).toEqual([0, 0]);
    expect(m.kernel.log).toEqual(["domain 3: iotlb_sync failed: ETIMEDOUT: iotlbSync was told to fail"]);
  });
  await closeClean(m);
});
