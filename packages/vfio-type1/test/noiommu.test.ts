/** Devices that no IOMMU stands in front of: refused, or with enable_unsafe_noiommu_mode given to who may do anything anyway (F5). */
import { user } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import {
  VFIO_IOMMU_BIND,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_MAP_DMA,
  VfioContainer,
  VfioExtension,
  vfioOf,
} from "../src/index.js";
import { A, B, closeClean, errnoOf, machine, memory, PAGE } from "./support/machine.js";

const { TYPE1_IOMMU, TYPE1v2_IOMMU, NOIOMMU_IOMMU, UNMAP_ALL } = VfioExtension;
const UNSAFE = { iommus: 0, params: { enableUnsafeNoiommuMode: true } } as const;
/** Groups get their ids in the order of the devices. */
const [GROUP_A, GROUP_B] = ["noiommu-0", "noiommu-1"];

describe("a device behind no IOMMU", () => {
  it("is refused by vfio-pci, and there is no group (F5)", async () => {
    const m = await machine({ iommus: 0 });
    expect(m.kernel.log[0]).toBe(`vfio-pci ${A}: probe with driver vfio-pci failed with error -22`);
    expect(m.platform.device(A).driver).toBeUndefined();
    await m.run(async (task) => {
      expect(await errnoOf(task.open(`/dev/vfio/${GROUP_A}`, 2))).toBe("ENOENT");
      const container = await VfioContainer.open(task);
      expect(await container.checkExtension(NOIOMMU_IOMMU)).toBe(0);
      expect(await container.checkExtension(TYPE1_IOMMU)).toBe(1);
    });
    await closeClean(m);
  });

  it("has a group of its own in unsafe mode, with a container whose IOMMU does nothing (F2) (F3) (F5)", async () => {
    const m = await machine(UNSAFE);
    expect(m.kernel.log).toContain(`vfio-pci ${A}: Adding kernel taint for vfio-noiommu group on device`);
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      expect(await container.checkExtension(NOIOMMU_IOMMU)).toBe(1);
      const group = await container.attach(GROUP_A);
      expect(await group.status()).toBe(3);
      for (const type of [TYPE1_IOMMU, UNMAP_ALL]) expect(await container.checkExtension(type)).toBe(0);
      expect(await errnoOf(group.device(A))).toBe("EINVAL");
      expect(await errnoOf(container.setIommu(TYPE1v2_IOMMU))).toBe("ENODEV");
      await container.setIommu(NOIOMMU_IOMMU);
      expect(await errnoOf(container.setIommu(NOIOMMU_IOMMU))).toBe("EINVAL");
      for (const request of [VFIO_IOMMU_GET_INFO, VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_BIND])
        expect(await errnoOf(task.ioctl(container.fd, request))).toBe("ENOTTY");
      const device = await group.device(A);
      expect(m.kernel.log.at(-1)).toBe(`vfio-pci ${A}: vfio-noiommu device opened by user (program:${task.pid})`);
      expect((await device.info()).numRegions).toBe(9);
      expect(await errnoOf(group.unsetContainer())).toBe("EBUSY");
      await device.close();
      await group.unsetContainer();
      expect(await container.checkExtension(TYPE1_IOMMU)).toBe(1);
    });
    await closeClean(m);
  });

  it("needs CAP_SYS_RAWIO at every step: open, SET_CONTAINER, SET_IOMMU, GET_DEVICE_FD (F5)", async () => {
    const m = await machine(UNSAFE);
    await m.run(async (task) => {
      const root = task.credentials;
      const powerless = { ...root, capabilities: user(0).capabilities };
      /** The same call without the capability, and with it. */
      const both = async <T>(call: () => Promise<T>): Promise<T> => {
        task.credentials = powerless;
        expect(await errnoOf(call())).toBe("EPERM");
        task.credentials = root;
        return call();
      };
      const container = await VfioContainer.open(task);
      const fd = await both(() => task.open(`/dev/vfio/${GROUP_A}`, 2));
      await task.close(fd);
      const group = await both(() => container.attach(GROUP_A));
      await both(() => container.setIommu(NOIOMMU_IOMMU));
      await both(() => group.device(A));
      task.credentials = user(1000);
      expect(await errnoOf(task.open(`/dev/vfio/${GROUP_B}`, 2))).toBe("EACCES");
    });
    await closeClean(m);
  });

  it("never shares a container with one behind an IOMMU (F5)", async () => {
    const behindNone = "0001:00:06.0";
    const m = await machine({ ...UNSAFE, iommus: 1, devices: [A, behindNone] });
    const group = m.platform.device(behindNone).group?.id;
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      const real = await container.attach(m.group(A));
      expect(await errnoOf(container.attach(`noiommu-${group}`))).toBe("EPERM");
      await real.unsetContainer();
      await container.attach(`noiommu-${group}`);
      expect(await errnoOf(container.attach(m.group(A)))).toBe("EBUSY");
      await real.close();
      expect(await errnoOf(container.attach(m.group(A)))).toBe("EPERM");
    });
    await closeClean(m);
  });

  it("can go while nobody uses it, and its group with it", async () => {
    const m = await machine(UNSAFE);
    await m.platform.run(() => m.platform.unplug(A));
    expect(m.kernel.nodes.has(`/dev/vfio/${GROUP_A}`)).toBe(false);
    await m.platform.run(async () => {
      await vfioOf(m.platform).unbind(m.platform.device(B));
      expect(m.platform.device(B).group).toBeUndefined();
    });
    await closeClean(m);
  });

  it("reaches every address: nothing is mapped or pinned for it", async () => {
    const m = await machine(UNSAFE);
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      await container.attach(GROUP_A);
      await container.setIommu(NOIOMMU_IOMMU);
      const vaddr = await memory(task, 1);
      expect(await errnoOf(container.mapDma({ iova: 0n, vaddr, size: PAGE }))).toBe("ENOTTY");
      expect(task.mm?.lockedVm).toBe(0);
    });
    await closeClean(m);
  });
});
