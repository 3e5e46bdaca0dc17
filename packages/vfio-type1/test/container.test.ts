/** Life cycle of containers, groups and devices: what real kernels answered, item by item of the recorded surprises. */
import { type Errno, O, OpenFile, type Task, user } from "@iommukit/core";
import { FakePciFunction } from "@iommukit/core/testing";
import { describe, expect, it } from "vitest";
import {
  VFIO_GROUP_SET_CONTAINER,
  VFIO_IOMMU_BIND,
  VFIO_IOMMU_MAP_DMA,
  VfioContainer,
  VfioExtension,
  VfioGroup,
  vfioOf,
  vfioType1,
} from "../src/index.js";
import { A, B, closeClean, containerWith, errnoOf, machine, memory, PAGE } from "./support/machine.js";

async function setContainer(task: Task, groupFd: number, fd: number): Promise<Errno | "success"> {
  return errnoOf(task.ioctl(groupFd, VFIO_GROUP_SET_CONTAINER, new Uint8Array(Int32Array.of(fd).buffer)));
}

describe("a container without an IOMMU", () => {
  it("answers EINVAL to everything but its own three ioctls", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      expect(await container.apiVersion()).toBe(0);
      for (const request of [VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_BIND, 0x3b90, 0x5401])
        expect(await errnoOf(task.ioctl(container.fd, request, new Uint8Array(64)))).toBe("EINVAL");
    });
    await closeClean(m);
  });

  it("offers types 1, 3, 6 and UNMAP_ALL before SET_IOMMU, and UPDATE_VADDR only after it (F2, F10)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      const offered = async () => {
        const all = await Promise.all(
          Array.from({ length: 12 }, (_, extension) => container.checkExtension(extension)),
        );
        return all.flatMap((value, extension) => (value > 0 ? [extension] : []));
      };
      expect(await offered()).toEqual([1, 3, 6, 9]);
      await container.attach(m.group(A));
      await container.setIommu();
      expect(await offered()).toEqual([1, 3, 4, 6, 9, 10]);
      // The argument has 64 bits: nothing above them is cut off.
      expect(await task.ioctl(container.fd, 0x3b65, 0x1_0000_0001n)).toBe(0);
    });
    await closeClean(m);
  });

  it.each([
    [VfioExtension.SPAPR_TCE_IOMMU, "ENODEV"],
    [VfioExtension.DMA_CC_IOMMU, "ENODEV"],
    [VfioExtension.UNMAP_ALL, "EINVAL"],
    [VfioExtension.UPDATE_VADDR, "ENODEV"],
    [VfioExtension.TYPE1_NESTING_IOMMU, "EINVAL"],
    [0, "ENODEV"],
  ])("refuses SET_IOMMU with %i: %s; without a group always with EINVAL (F3)", async (type, errno) => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      expect(await errnoOf(container.setIommu(type))).toBe("EINVAL");
      await container.attach(m.group(A));
      expect(await errnoOf(container.setIommu(type))).toBe(errno);
      await container.setIommu(VfioExtension.TYPE1_IOMMU);
      expect(await errnoOf(container.setIommu(VfioExtension.TYPE1_IOMMU))).toBe("EINVAL");
    });
    await closeClean(m);
  });
});

describe("a container with type1", () => {
  it("answers ENOTTY to what it does not know", async () => {
    const m = await machine({ profile: "linux-6.12" });
    await m.run(async (task) => {
      const { fd } = await containerWith(m, task);
      for (const request of [VFIO_IOMMU_BIND, 0x3b90, 0x5401])
        expect(await errnoOf(task.ioctl(fd, request, new Uint8Array(64)))).toBe("ENOTTY");
    });
    await closeClean(m);
  });

  it("keeps its mappings when its descriptor closes, until the last group leaves", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      const group = await container.attach(m.group(A));
      await container.setIommu();
      await container.mapDma({ iova: 0n, vaddr: await memory(task, 2), size: 2n * PAGE });
      await container.close();
      expect(task.mm?.lockedVm).toBe(2);
      expect(await group.status()).toBe(3);
      const device = await group.device(A);
      await device.close();
      await group.unsetContainer();
      expect(task.mm?.lockedVm).toBe(0);
      expect(await group.status()).toBe(1);
    });
    await closeClean(m);
  });

  it("takes no mapping any more when its last group is leaving: EINVAL, and no page stays pinned", async () => {
    const m = await machine();
    const { scheduler } = m.platform;
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      const group = await container.attach(m.group(A));
      await container.setIommu();
      const vaddr = await memory(task, 1);
      m.ops().delays.detachDev = 1000;
      scheduler.spawn("thread", () => group.unsetContainer());
      await scheduler.sleep(10);
      expect(await errnoOf(container.mapDma({ iova: 0n, vaddr, size: PAGE }))).toBe("EINVAL");
    });
    await closeClean(m);
  });

  it("refuses a group whose interrupts cannot be isolated at SET_IOMMU with EPERM, unless told otherwise", async () => {
    const m = await machine();
    m.ops().capable = () => false;
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      await container.attach(m.group(A));
      expect(await errnoOf(container.setIommu())).toBe("EPERM");
      expect(m.kernel.log.at(-1)).toMatch(/No interrupt remapping support/);
      vfioOf(m.platform).params.allowUnsafeInterrupts = true;
      await container.setIommu();
    });
    await closeClean(m);
  });
});

describe("a group", () => {
  it("is open once, and stays busy until its last device is closed", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      const group = await container.attach(m.group(A));
      expect(await errnoOf(VfioGroup.open(task, m.group(A)))).toBe("EBUSY");
      await container.setIommu();
      const device = await group.device(A);
      await container.mapDma({ iova: 0n, vaddr: await memory(task, 1), size: PAGE });
      await group.close();
      expect(await errnoOf(VfioGroup.open(task, m.group(A)))).toBe("EBUSY");
      await device.close();
      // Everything went with it: mappings, container, IOMMU.
      expect(task.mm?.lockedVm).toBe(0);
      expect(await (await VfioGroup.open(task, m.group(A))).status()).toBe(1);
      expect(await errnoOf(container.info())).toBe("EINVAL");
    });
    await closeClean(m);
  });

  it("stays open for the call that is made on it, whoever closes its descriptor meanwhile", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      const group = await container.attach(m.group(A));
      await container.setIommu();
      await container.mapDma({ iova: 0n, vaddr: await memory(task, 1), size: PAGE });
      // The call finds the group, and waits for its lock when the descriptor goes.
      const { scheduler } = m.platform;
      const point = scheduler.point.bind(scheduler);
      scheduler.point = (name) => (name.includes("->group_lock") ? scheduler.sleep(100) : point(name));
      const opened = group.device(A);
      const closed = scheduler.spawn("close", async () => {
        await scheduler.sleep(50);
        scheduler.point = point;
        await group.close();
      });
      const device = await opened;
      await scheduler.sleep(1000);
      expect(closed.done).toBe(true);
      expect(m.domainOf(A).pages.size).toBe(1);
      expect(await container.info()).toBeDefined();
      await device.close();
      expect(task.mm?.lockedVm).toBe(0);
    });
    await closeClean(m);
  });

  it("gives no device to a task that has exited meanwhile: it would stay open for ever", async () => {
    const m = await machine();
    const { scheduler } = m.platform;
    const device = vfioOf(m.platform).registerEmulated("slow", { openDevice: () => scheduler.sleep(1000) });
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      const group = await container.attach(device.group.iommuGroup.id);
      await container.setIommu();
      let answer = "";
      scheduler.spawn("thread", async () => {
        answer = await errnoOf(group.device("slow"));
      });
      await scheduler.sleep(10);
      await task.exit();
      await scheduler.sleep(1000);
      expect(answer).toBe("ESRCH");
    });
    await closeClean(m);
  });

  it("keeps the container open while it joins it, whoever closes its descriptor meanwhile", async () => {
    const m = await machine();
    const { scheduler } = m.platform;
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      const group = await container.attach(m.group(A));
      await group.unsetContainer();
      m.ops().delays.detachDev = 1000;
      const arg = new Uint8Array(Int32Array.of(container.fd).buffer);
      scheduler.spawn("thread", async () => void (await task.ioctl(group.fd, VFIO_GROUP_SET_CONTAINER, arg)));
      await scheduler.sleep(10);
      await container.close();
      await scheduler.sleep(1000);
      expect(vfioOf(m.platform).leaks()).toContain(
        `vfio: a container is closed with groups [${m.group(A)}] and 0 mappings`,
      );
    });
    await closeClean(m);
  });

  it("stays in its container while a device is open (F6)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      const group = await container.attach(m.group(A));
      await container.setIommu();
      const [first, second] = [await group.device(A), await group.device(A)];
      expect(await errnoOf(group.unsetContainer())).toBe("EBUSY");
      await first.close();
      expect(await errnoOf(group.unsetContainer())).toBe("EBUSY");
      await second.close();
      await group.unsetContainer();
      expect(await errnoOf(group.unsetContainer())).toBe("EINVAL");
    });
    await closeClean(m);
  });

  it("gives a device only by its name, when it is bound to vfio-pci and the container has an IOMMU (F6)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      const group = await container.attach(m.group(A));
      expect(await errnoOf(group.device(A))).toBe("EINVAL");
      await container.setIommu();
      for (const name of [B, "", "nonsense", "0000:ff:1f.7"]) expect(await errnoOf(group.device(name))).toBe("ENODEV");
    });
    await closeClean(m);
  });

  it("takes a container's descriptor and no other (F5)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const group = await VfioGroup.open(task, m.group(A));
      const other = task.fds.install(new OpenFile({ name: "/dev/null" }, O.RDWR));
      expect(await setContainer(task, group.fd, -1)).toBe("EBADF");
      expect(await setContainer(task, group.fd, 9999)).toBe("EBADF");
      expect(await setContainer(task, group.fd, other)).toBe("EBADFD");
      expect(await setContainer(task, group.fd, group.fd)).toBe("EBADFD");
      expect(await errnoOf(task.ioctl(group.fd, VFIO_GROUP_SET_CONTAINER, 0n))).toBe("EFAULT");
      const [one, two] = [await VfioContainer.open(task), await VfioContainer.open(task)];
      expect(await setContainer(task, group.fd, one.fd)).toBe("success");
      expect(await setContainer(task, group.fd, two.fd)).toBe("EINVAL");
    });
    await closeClean(m);
  });

  it("is not viable while a device in it belongs to another driver (F7)", async () => {
    const functions = ["0000:00:1f.2", "0000:00:1f.3"].map((bdf) => new FakePciFunction(bdf, { config: { 14: 0x80 } }));
    const m = await machine({ functions, devices: ["0000:00:1f.3"] });
    m.platform.device("0000:00:1f.2").driver = "ahci";
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      const group = await VfioGroup.open(task, m.group("0000:00:1f.3"));
      expect(await group.status()).toBe(0);
      expect(await setContainer(task, group.fd, container.fd)).toBe("EPERM");
      m.platform.device("0000:00:1f.2").driver = undefined;
      expect(await group.status()).toBe(1);
    });
    await closeClean(m);
  });

  const oneToOne = (type: "direct" | "direct-relaxable") => () => [{ start: 0n, length: 0x1000n, type, prot: 3 }];

  it.each(["iommukit", "linux-6.12"] as const)(
    "is refused by SET_CONTAINER in %s when firmware wants memory mapped one to one for a device (F21, F24)",
    async (profile) => {
      const m = await machine({ profile });
      m.ops().reservedRegions = oneToOne("direct");
      await m.run(async (task) => {
        const container = await VfioContainer.open(task);
        const group = await VfioGroup.open(task, m.group(A));
        expect(await setContainer(task, group.fd, container.fd)).toBe("EINVAL");
        expect(m.kernel.log.at(-1)).toContain("firmware wants memory mapped one to one");
        // What may be given up keeps nobody out.
        m.ops().reservedRegions = oneToOne("direct-relaxable");
        expect(await setContainer(task, group.fd, container.fd)).toBe("success");
        await container.setIommu();
      });
      await closeClean(m);
    },
  );

  it.each(["linux-6.1", "seed"] as const)(
    "is refused by SET_IOMMU in %s when firmware wants memory mapped one to one for a device (F21, F24)",
    async (profile) => {
      const m = await machine({ profile });
      m.ops().reservedRegions = oneToOne("direct");
      await m.run(async (task) => {
        const container = await VfioContainer.open(task);
        const group = await VfioGroup.open(task, m.group(A));
        expect(await setContainer(task, group.fd, container.fd)).toBe("success");
        expect(await errnoOf(container.setIommu())).toBe("EPERM");
        expect(m.kernel.log.at(-1)).toContain("firmware wants memory mapped one to one");
        m.ops().reservedRegions = oneToOne("direct-relaxable");
        await container.setIommu();
      });
      await closeClean(m);
    },
  );

  it("belongs to root", async () => {
    const m = await machine();
    await m.run(async (task) => {
      task.credentials = user(65534);
      await VfioContainer.open(task);
      expect(await errnoOf(VfioGroup.open(task, m.group(A)))).toBe("EACCES");
    });
    await closeClean(m);
  });
});

describe("hot unplug", () => {
  it("asks the program for the device, takes the group out of its container and leaves nothing behind", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      const group = await container.attach(m.group(A));
      await container.setIommu();
      const device = await group.device(A);
      await container.bind();
      await container.mapDma({ iova: 0n, vaddr: await memory(task, 1), size: PAGE });
      await m.platform.unplug(A);
      expect(await errnoOf(device.info())).toBe("ENODEV");
      expect(task.mm?.lockedVm).toBe(0);
      expect(m.platform.sva.inUse()).toMatchObject({ bonds: 0, pasids: 0 });
      expect(await errnoOf(container.info())).toBe("EINVAL");
    });
    await closeClean(m);
  });
});

describe("numbers that C has no room for", () => {
  it("are EINVAL before they become bytes", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task, [A]);
      const at = await memory(task, 1);
      const map = (values: object) => container.mapDma({ iova: 0n, vaddr: at, size: PAGE, ...values });
      for (const values of [
        { size: 2n ** 64n },
        { size: Number.NaN },
        { size: 1.5 },
        { iova: 2n ** 64n },
        { flags: 2 ** 32 },
      ])
        expect(await errnoOf(map(values))).toBe("EINVAL");
      expect(await errnoOf(container.unmapDma({ iova: 0n, size: 2n ** 64n }))).toBe("EINVAL");
      expect(await errnoOf(container.unmapAll({ iova: 0n, size: 0.5 }))).toBe("EINVAL");
      expect(await errnoOf(container.bind({ pid: 2 ** 40 }))).toBe("EINVAL");
      expect(await errnoOf(container.bind({ pid: Number.NaN }))).toBe("EINVAL");
      expect(await errnoOf(container.setIommu(Number.NaN))).toBe("EINVAL");
      expect(await errnoOf(task.pread(container.fd, new Uint8Array(4), -4))).toBe("EINVAL");
      expect(await errnoOf(task.pwrite(container.fd, new Uint8Array(4), Number.NaN))).toBe("EINVAL");
    });
    await closeClean(m);
  });
});

describe("vfioType1", () => {
  it("refuses a profile that is none, and a second VFIO", async () => {
    const m = await machine();
    await expect(
      m.platform.run(() => m.platform.addService(vfioType1({ profile: "linux-9" as "iommukit" }))),
    ).rejects.toThrow('EINVAL: no profile "linux-9"; there are iommukit, seed, linux-6.1');
    await expect(m.platform.run(() => m.platform.addService(vfioType1()))).rejects.toThrow(
      "EEXIST: there is a /dev/vfio/vfio already",
    );
    await closeClean(m);
  });
});
