/** Mediated devices that share their parent's PASIDs: SVA of the parent is on as long as one of them needs it (S-7). */
import type { Task } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { VfioContainer, vfioOf } from "../../src/index.js";
import { A, B, closeClean, errnoOf, type Machine, machine } from "../support/machine.js";

/** Two mediated devices of A, which a kernel driver uses; B is VFIO's. */
async function mediated(bugs: readonly string[] = []) {
  const m = await machine({ bugs, devices: [A, B] });
  m.platform.device(A).driver = "parent";
  const vfio = vfioOf(m.platform);
  const [first, second] = ["one", "two"].map((name) => vfio.registerEmulated(name, {}, m.platform.device(A)));
  return { m, first: first.group.iommuGroup.id, second: second.group.iommuGroup.id };
}

async function container(task: Task, ...groups: readonly number[]): Promise<VfioContainer> {
  const opened = await VfioContainer.open(task);
  for (const group of groups) await opened.attach(group);
  await opened.setIommu();
  return opened;
}

const bonds = (m: Machine) => [...(m.platform.device(A).svaParam?.mmList ?? [])].map(({ ioMm }) => ioMm.pasid);

describe("two containers with a mediated device of one parent each", () => {
  it("bind their processes there, and the first to leave takes its own along", async () => {
    const { m, first, second } = await mediated();
    await m.run(async (task) => {
      const other = m.kernel.spawn({ name: "other" });
      const one = await container(task, first);
      const two = await container(other, second);
      const pasids = [await one.bind(), await two.bind()];
      expect(bonds(m)).toEqual(pasids);
      await task.exit();
      expect(bonds(m)).toEqual([pasids[1]]);
      await other.exit();
      expect(m.platform.device(A).svaParam).toBeUndefined();
    });
    await closeClean(m);
  });

  it("cannot both be bound when SVA is switched per group (S-7)", async () => {
    const { m, first, second } = await mediated(["S-7"]);
    await m.run(async (task) => {
      const one = await container(task, first);
      const two = await container(m.kernel.spawn({ name: "other" }), second);
      await one.bind();
      expect(await errnoOf(two.bind())).toBe("EBUSY");
    });
    await m.platform.close();
  });
});

describe("a container with both of them", () => {
  it("binds a process to the parent once, until the last of them has left", async () => {
    const { m, first, second } = await mediated();
    await m.run(async (task) => {
      const opened = await VfioContainer.open(task);
      const [left] = [await opened.attach(first), await opened.attach(second)];
      await opened.setIommu();
      const pasid = await opened.bind();
      expect(bonds(m)).toEqual([pasid]);
      await left.unsetContainer();
      expect(bonds(m)).toEqual([pasid]);
      await opened.unbind();
      expect(bonds(m)).toEqual([]);
    });
    await closeClean(m);
  });

  it("binds what a real device is bound to, and keeps it when that device leaves", async () => {
    const { m, first } = await mediated();
    await m.run(async (task) => {
      const opened = await VfioContainer.open(task);
      const real = await opened.attach(m.group(B));
      await opened.setIommu();
      const pasid = await opened.bind();
      await opened.attach(first);
      expect(bonds(m)).toEqual([pasid]);
      await real.unsetContainer();
      expect(m.platform.device(B).svaParam).toBeUndefined();
      expect(bonds(m)).toEqual([pasid]);
    });
    await closeClean(m);
  });
});

it("a mediated device without a parent cannot be bound", async () => {
  const m = await machine();
  const device = vfioOf(m.platform).registerEmulated("alone", {});
  await m.run(async (task) => {
    expect(await errnoOf((await container(task, device.group.iommuGroup.id)).bind())).toBe("EINVAL");
  });
  await closeClean(m);
});
