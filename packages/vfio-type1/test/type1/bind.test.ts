import { type Task, user } from "@iommukit/core";
import { FakePciFunction } from "@iommukit/core/testing";
import { describe, expect, it } from "vitest";
import { VFIO_IOMMU_BIND, VFIO_IOMMU_UNBIND, VfioContainer, VfioGroup } from "../../src/index.js";
import { A, B, closeClean, containerWith, errnoOf, machine, memory, PAGE } from "../support/machine.js";

/** struct vfio_iommu_type1_bind and vfio_iommu_type1_bind_process as a program lays them out. */
function bytes(...words: readonly number[]): Uint8Array {
  return new Uint8Array(Int32Array.from(words).buffer);
}

/** argsz, flags = BIND_PROCESS; flags = 0, pasid, pid. */
const BIND_SELF = () => bytes(20, 1, 0, 0, 0);

function bindPid(pid: number): Uint8Array {
  return bytes(20, 1, 1, 0, pid);
}

function pasidIn(arg: Uint8Array): number {
  return new DataView(arg.buffer).getUint32(12, true);
}

describe("VFIO_IOMMU_BIND", () => {
  it("is _IO(';', 122), and UNBIND the next (F1)", () => {
    expect([VFIO_IOMMU_BIND, VFIO_IOMMU_UNBIND]).toEqual([0x3b7a, 0x3b7b]);
  });

  it("returns one PASID for all devices of the container and writes nothing else", async () => {
    const m = await machine();
    const { arg, pasids } = await m.run(async (task) => {
      const { fd } = await containerWith(m, task, [A, B]);
      const arg = BIND_SELF();
      expect(await task.ioctl(fd, VFIO_IOMMU_BIND, arg)).toBe(0);
      return { arg, pasids: [A, B].map((bdf) => [...m.domainOf(bdf).pasids.keys()]) };
    });
    expect(arg).toEqual(bytes(20, 1, 0, pasidIn(arg), 0));
    expect(pasids).toEqual([[pasidIn(arg)], [pasidIn(arg)]]);
    await closeClean(m);
  });

  it("answers the same PASID the second time and makes no second bond (F29)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task, [A, B]);
      const first = await container.bind();
      expect(await container.bind()).toBe(first);
      expect(await container.bind({ pid: task.pid })).toBe(first);
      expect(m.platform.sva.inUse()).toMatchObject({ bonds: 2, pasids: 1 });
    });
    await closeClean(m);
  });

  it.each([
    ["argsz of 7", bytes(7, 1, 0, 0, 0), "EINVAL"],
    ["argsz of 19", bytes(19, 1, 0, 0, 0), "EINVAL"],
    ["flags of 0", bytes(20, 0, 0, 0, 0), "EINVAL"],
    ["flags of 3", bytes(20, 3, 0, 0, 0), "EINVAL"],
    ["an unknown inner flag", bytes(20, 1, 2, 0, 0), "EINVAL"],
    ["BIND_PID with another flag", bytes(20, 1, 3, 0, 1), "EINVAL"],
    ["a buffer that ends inside of the head", bytes(20), "EFAULT"],
    ["a buffer that ends inside of the parameters", bytes(20, 1, 0, 0), "EFAULT"],
    ["a pid that nobody has", bindPid(4711), "ESRCH"],
    ["a negative pid", bindPid(-1), "ESRCH"],
    ["wrong flags before the pid is looked at", bytes(20, 1, 2, 0, 4711), "EINVAL"],
    ["a short argsz before the parameters are read", bytes(8, 1), "EINVAL"],
  ])("refuses %s: %s (F27, F28)", async (_what, arg, errno) => {
    const m = await machine();
    await m.run(async (task) => {
      const { fd } = await containerWith(m, task);
      const before = arg.slice();
      expect(await errnoOf(task.ioctl(fd, VFIO_IOMMU_BIND, arg))).toBe(errno);
      expect(await errnoOf(task.ioctl(fd, VFIO_IOMMU_UNBIND, arg))).toBe(errno);
      expect(arg).toEqual(before);
      expect(m.platform.sva.inUse()).toMatchObject({ bonds: 0, pasids: 0 });
    });
    await closeClean(m);
  });

  it("refuses a process that the caller may not trace with EACCES (F28)", async () => {
    const m = await machine();
    await m.run(async (root) => {
      const container = await containerWith(m, root);
      const child = await root.fork("child");
      child.credentials = user(1000);
      const victim = m.kernel.spawn({ name: "victim", credentials: user(1001) });
      expect(await errnoOf(child.ioctl(container.fd, VFIO_IOMMU_BIND, bindPid(victim.pid)))).toBe("EACCES");
      expect(victim.mm?.mmUsers).toBe(1);
      // The same user's process that is not dumpable is as closed as another user's.
      const secret = m.kernel.spawn({ name: "secret", credentials: user(1000) });
      secret.dumpable = false;
      expect(await errnoOf(child.ioctl(container.fd, VFIO_IOMMU_BIND, bindPid(secret.pid)))).toBe("EACCES");
      secret.dumpable = true;
      expect(await errnoOf(child.ioctl(container.fd, VFIO_IOMMU_BIND, bindPid(secret.pid)))).toBe("success");
    });
    await closeClean(m);
  });

  it("asks who the caller is only where an address space is that is not its own (F28)", async () => {
    const m = await machine();
    await m.run(async (root) => {
      const container = await containerWith(m, root);
      const child = await root.fork("child");
      child.credentials = user(1000);
      const bindTo = (pid: number) => errnoOf(child.ioctl(container.fd, VFIO_IOMMU_BIND, bindPid(pid)));
      const kthread = m.kernel.spawn({ name: "kthread" });
      await kthread.mm?.mmput();
      kthread.mm = undefined;
      expect(await bindTo(kthread.pid)).toBe("ESRCH");
      // Itself, and a task of another user that shares its address space (CLONE_VM), dumpable or not.
      child.dumpable = false;
      child.mm?.mmget();
      const sharer = m.kernel.spawn({ name: "sharer", mm: child.mm });
      sharer.dumpable = false;
      expect(await bindTo(sharer.pid)).toBe("success");
      expect(await bindTo(child.pid)).toBe("success");
      expect(m.platform.sva.inUse()).toMatchObject({ bonds: 1, pasids: 1 });
    });
    await closeClean(m);
  });

  it.each([
    ["the same ids", {}, "success"],
    ["another effective user", { euid: 0 }, "EACCES"],
    ["another saved user", { suid: 0 }, "EACCES"],
    ["another group", { gid: 5 }, "EACCES"],
    ["another effective group", { egid: 5 }, "EACCES"],
    ["another saved group", { sgid: 5 }, "EACCES"],
  ])("compares all ids of a process with %s with the caller's real ones (F28)", async (_what, ids, errno) => {
    const m = await machine();
    await m.run(async (root) => {
      const container = await containerWith(m, root);
      const child = await root.fork("child");
      child.credentials = { ...user(1000), euid: 7 };
      const other = m.kernel.spawn({ credentials: { ...user(1000), ...ids } });
      expect(await errnoOf(child.ioctl(container.fd, VFIO_IOMMU_BIND, bindPid(other.pid)))).toBe(errno);
    });
    await closeClean(m);
  });

  it("lets nobody trace who can do more than he (F28, cap_ptrace_access_check)", async () => {
    const m = await machine();
    await m.run(async (root) => {
      const container = await containerWith(m, root);
      const child = await root.fork("child");
      child.credentials = user(0, ["CAP_IPC_LOCK"]);
      const bindTo = (pid: number) => errnoOf(child.ioctl(container.fd, VFIO_IOMMU_BIND, bindPid(pid)));
      const strong = m.kernel.spawn({ credentials: user(0, ["CAP_IPC_LOCK", "CAP_SYS_RAWIO"]) });
      const weak = m.kernel.spawn({ credentials: user(0, ["CAP_IPC_LOCK"]) });
      expect([await bindTo(strong.pid), await bindTo(weak.pid)]).toEqual(["EACCES", "success"]);
      expect(strong.mm?.mmUsers).toBe(1);
      // What a program was before it ran another one does not count.
      weak.dumpable = false;
      expect(await bindTo(weak.pid)).toBe("EACCES");
      await weak.exec(m.kernel.createMm("image"));
      expect(await bindTo(weak.pid)).toBe("success");
    });
    await closeClean(m);
  });

  it("refuses a process without an address space: ESRCH by pid, EINVAL for itself (F28)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const { fd } = await containerWith(m, task);
      const kthread = m.kernel.spawn({ name: "kthread" });
      await kthread.mm?.mmput();
      kthread.mm = undefined;
      expect(await errnoOf(task.ioctl(fd, VFIO_IOMMU_BIND, bindPid(kthread.pid)))).toBe("ESRCH");
      const { mm } = task;
      task.mm = undefined;
      expect(await errnoOf(task.ioctl(fd, VFIO_IOMMU_BIND, BIND_SELF()))).toBe("EINVAL");
      task.mm = mm;
    });
    await closeClean(m);
  });

  it("refuses a container without an IOMMU with EINVAL", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      expect(await errnoOf(task.ioctl(container.fd, VFIO_IOMMU_BIND, BIND_SELF()))).toBe("EINVAL");
    });
    await closeClean(m);
  });

  it("refuses a group of two devices with EINVAL and without any side effect (F30)", async () => {
    const functions = ["0000:00:09.0", "0000:00:09.1"].map((bdf) => new FakePciFunction(bdf, { config: { 14: 0x80 } }));
    const m = await machine({ functions });
    await m.run(async (task) => {
      const { fd } = await containerWith(m, task, ["0000:00:09.0"]);
      const calls = [...m.ops().calls];
      const arg = BIND_SELF();
      expect(await errnoOf(task.ioctl(fd, VFIO_IOMMU_BIND, arg))).toBe("EINVAL");
      expect(arg).toEqual(BIND_SELF());
      expect(m.ops().calls).toEqual(calls);
      expect(m.platform.sva.inUse()).toEqual({ bonds: 0, pasids: 0, partials: 0 });
    });
    await closeClean(m);
  });

  it("takes everything back when the second group refuses, and answers with its errno (F31, S-1)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task, [A, B]);
      m.ops().fail("mmAttach", "ERANGE", 1);
      expect(await errnoOf(container.bind())).toBe("ERANGE");
      expect(m.platform.sva.inUse()).toEqual({ bonds: 0, pasids: 0, partials: 0 });
      expect([A, B].map((bdf) => m.platform.device(bdf).svaParam)).toEqual([undefined, undefined]);
      await container.bind();
    });
    await closeClean(m);
  });

  it("takes everything back when the first bind of all refuses (S-1)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task, [A, B]);
      for (const op of ["svaDeviceInit", "mmAlloc", "mmAttach"] as const) {
        m.ops().fail(op, "ENOMEM");
        expect(await errnoOf(container.bind())).toBe("ENOMEM");
        expect(m.platform.sva.inUse()).toEqual({ bonds: 0, pasids: 0, partials: 0 });
        expect(m.platform.device(A).svaParam).toBeUndefined();
      }
    });
    await closeClean(m);
  });

  it("unbinds again when the PASID cannot be copied to the user (F31)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task);
      const address = await readOnlyPage(task, BIND_SELF());
      expect(await errnoOf(task.ioctl(container.fd, VFIO_IOMMU_BIND, address))).toBe("EFAULT");
      expect(m.platform.sva.inUse()).toMatchObject({ bonds: 0, pasids: 0 });
      await container.bind();
      expect(m.platform.sva.inUse()).toMatchObject({ bonds: 1, pasids: 1 });
    });
    await closeClean(m);
  });
});

async function readOnlyPage(task: Task, content: Uint8Array): Promise<bigint> {
  const mm = task.mm as import("@iommukit/core").AddressSpace;
  const address = await mm.mmap({ length: 4096, prot: "rw" });
  await mm.write(address, content);
  await mm.mprotect(address, 4096, "r");
  return address;
}

describe("VFIO_IOMMU_UNBIND", () => {
  it("takes the bonds away, and may be followed by a new BIND", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task, [A, B]);
      await container.bind();
      await container.unbind();
      expect(m.platform.sva.inUse()).toMatchObject({ bonds: 0, pasids: 0 });
      expect(await errnoOf(container.unbind())).toBe("ESRCH");
      await container.bind();
    });
    await closeClean(m);
  });

  it("gives ESRCH for an address space that is not bound (F32)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task);
      const other = m.kernel.spawn({ name: "other" });
      await container.bind();
      expect(await errnoOf(container.unbind({ pid: other.pid }))).toBe("ESRCH");
      expect(m.platform.sva.inUse().bonds).toBe(1);
    });
    await closeClean(m);
  });

  it("goes by process, not by PASID: the next owner of a PASID keeps its bond (S-9)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task);
      const first = m.kernel.spawn({ name: "first" });
      const pasid = await container.bind({ pid: first.pid });
      await first.exit();
      const second = m.kernel.spawn({ name: "second" });
      expect(await container.bind({ pid: second.pid })).toBe(pasid);
      expect(await errnoOf(container.unbind({ pid: first.pid }))).toBe("ESRCH");
      expect(m.domainOf(A).pasids.get(pasid)).toBe(second.mm);
    });
    await closeClean(m);
  });
});

describe("a bound process", () => {
  it("leaves the container when it exits, whatever the number of devices (F33)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task, [A, B]);
      const child = m.kernel.spawn({ name: "child" });
      await container.bind({ pid: child.pid });
      await child.exit();
      expect(m.platform.sva.inUse()).toMatchObject({ bonds: 0, pasids: 0 });
      expect(child.mm).toBeUndefined();
    });
    await closeClean(m);
  });

  it("is bound to a group that comes later (F34)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task, [A]);
      const pasid = await container.bind();
      await container.attach(m.group(B));
      expect([...m.domainOf(B).pasids.keys()]).toEqual([pasid]);
      expect(m.platform.sva.inUse()).toMatchObject({ bonds: 2, pasids: 1 });
    });
    await closeClean(m);
  });

  it("keeps a group out of the shared domain that refuses it, with SVA off there (S-5)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task, [A]);
      await container.bind();
      m.ops().fail("svaDeviceInit", "EOPNOTSUPP");
      await container.attach(m.group(B));
      // The second attempt, on a domain of its own, worked.
      expect(m.domainOf(B)).not.toBe(m.domainOf(A));
      expect(m.platform.sva.inUse().bonds).toBe(2);
    });
    await closeClean(m);
  });

  it("can exit while its container is closed: nobody waits for ever (S-2)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task, [A, B]);
      const child = m.kernel.spawn({ name: "child" });
      await container.bind({ pid: child.pid });
      m.ops().delays.mmExit = 1000;
      m.platform.scheduler.spawn("exit", () => child.exit());
      m.platform.scheduler.spawn("close", () => task.exit());
      await m.platform.scheduler.sleep(1_000_000);
      expect(m.platform.sva.inUse()).toMatchObject({ bonds: 0, pasids: 0 });
    });
    await closeClean(m);
  });
});

describe("a container with bound processes", () => {
  it("shuts SVA down on a group that leaves, and forgets the processes with the last one (F35)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      const [first, second] = [await container.attach(m.group(A)), await container.attach(m.group(B))];
      await container.setIommu();
      await container.bind();
      await first.unsetContainer();
      expect(m.platform.device(A).svaParam).toBeUndefined();
      expect(m.platform.sva.inUse()).toMatchObject({ bonds: 1, pasids: 1 });
      await second.unsetContainer();
      expect(m.platform.device(B).svaParam).toBeUndefined();
      expect(m.platform.sva.inUse()).toMatchObject({ bonds: 0, pasids: 0 });
      await first.setContainer(container.fd);
      await container.setIommu();
      expect(await errnoOf(container.unbind())).toBe("ESRCH");
    });
    await closeClean(m);
  });

  it("is shared over fork, with the parent's bonds, and leaves the child at exec; mappings live beside bonds (F36)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task);
      const pasid = await container.bind();
      await container.mapDma({ iova: 0n, vaddr: await memory(task, 1), size: PAGE });
      const child = await task.fork("child");
      const arg = bindPid(task.pid);
      await child.ioctl(container.fd, VFIO_IOMMU_BIND, arg);
      expect(pasidIn(arg)).toBe(pasid);
      // The child's own address space is another one.
      const own = BIND_SELF();
      await child.ioctl(container.fd, VFIO_IOMMU_BIND, own);
      expect(pasidIn(own)).not.toBe(pasid);
      const device = await (await containerGroup(m, child, container)).device(B);
      expect(child.fds.open.map(({ fd }) => fd)).toContain(device.fd);
      await child.exec(m.kernel.createMm("image"));
      expect(child.fds.open.map(({ fd }) => fd)).not.toContain(device.fd);
      expect(m.domainOf(A).pages.size).toBe(1);
      expect(m.domainOf(A).pasids.has(pasid)).toBe(true);
    });
    await closeClean(m);
  });
});

/** The second group in the child's hands: a device descriptor of its own, closed at exec. */
async function containerGroup(m: Awaited<ReturnType<typeof machine>>, child: Task, container: VfioContainer) {
  const group = await VfioGroup.open(child, m.group(B));
  await group.setContainer(container.fd);
  return group;
}
