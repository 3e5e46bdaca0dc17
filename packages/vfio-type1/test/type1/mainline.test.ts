/** The two ioctls of 2018 on both SVA cores: what a program sees is the same as long as its process lives. */
import { createPlatform } from "@iommukit/core";
import { FakePciFunction, fakeIommu } from "@iommukit/core/testing";
import { describe, expect, it } from "vitest";
import { VfioContainer, vfioType1 } from "../../src/index.js";
import { A, B, groupOf, pciPlugin } from "../support/machine.js";

async function machine(sva: "seed" | "mainline") {
  const platform = await createPlatform({
    iommus: [fakeIommu],
    devices: [A, B].map((bdf) => pciPlugin(new FakePciFunction(bdf))),
    services: [vfioType1()],
    sva,
  });
  const program = platform.kernel.spawn({ name: "program" });
  const container = await platform.run(async () => {
    const opened = await VfioContainer.open(program);
    for (const bdf of [A, B]) await opened.attach(groupOf(platform, bdf));
    await opened.setIommu();
    return opened;
  });
  return { platform, sva: platform.sva, program, container, run: platform.run.bind(platform) };
}

describe.each(["seed", "mainline"] as const)("VFIO_IOMMU_BIND on the SVA core of the %s", (flavour) => {
  it("binds, is idempotent, unbinds, and binds again (A13) (F29) (F32) (D7)", async () => {
    const { platform, sva, container, run } = await machine(flavour);
    await run(async () => {
      const pasid = await container.bind();
      expect(pasid).toBe(1);
      expect(await container.bind()).toBe(pasid);
      expect(sva.inUse()).toMatchObject({ bonds: 2, pasids: 1 });
      await container.unbind();
      expect(sva.inUse().bonds).toBe(0);
      await expect(container.unbind()).rejects.toMatchObject({ code: "ESRCH" });
      expect(await container.bind()).toBe(pasid);
    });
    expect(await platform.close()).toEqual([]);
  });

  it("gives every process a PASID of its own, and leaves nothing when they all exit (A13) (L-21)", async () => {
    const { platform, sva, container, run } = await machine(flavour);
    await run(async () => {
      const others = [1, 2, 3].map(() => platform.kernel.spawn());
      const pasids = [await container.bind()];
      for (const { pid } of others) pasids.push(await container.bind({ pid }));
      expect(pasids).toEqual([1, 2, 3, 4]);
      for (const task of others) await task.exit();
      await platform.scheduler.idle();
      // The 2018 series takes a dead process out of the container; mainline leaves that to the container's owner.
      expect(sva.inUse()).toMatchObject(flavour === "seed" ? { bonds: 2, pasids: 1 } : { bonds: 8, pasids: 4 });
    });
    expect(await platform.close()).toEqual([]);
  });
});
