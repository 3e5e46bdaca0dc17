import { describe, expect, it } from "vitest";
import { type Credentials, createPlatform, type FileOps, O, user } from "../../src/index.js";

describe("a call on a descriptor", () => {
  it.each(["ioctl", "pread", "pwrite"] as const)(
    "keeps the file until %s has returned, whoever closes it",
    async (call) => {
      const platform = await createPlatform({ iommus: [] });
      const seen: string[] = [];
      const slow = async () => {
        await platform.scheduler.sleep(100);
        seen.push("returned");
        return 0;
      };
      const release = async () => void seen.push("released");
      platform.kernel.nodes.set("/dev/slow", {
        path: "/dev/slow",
        open: async () => ({ name: "/dev/slow", ioctl: slow, read: slow, write: slow, release }),
      });
      await platform.run(async () => {
        const task = platform.kernel.spawn({ name: "program" });
        const fd = await task.open("/dev/slow", O.RDWR);
        platform.scheduler.spawn("call", async () => {
          await (call === "ioctl" ? task.ioctl(fd, 1) : task[call](fd, new Uint8Array(1), 0));
        });
        await platform.scheduler.sleep(50);
        await task.close(fd);
        await expect(task.ioctl(fd, 1)).rejects.toThrow("EBADF");
        await platform.scheduler.sleep(100);
        expect(seen).toEqual(["returned", "released"]);
      });
    },
  );
});

describe("a task that has exited", () => {
  it("opens nothing, and has no children", async () => {
    const platform = await createPlatform({ iommus: [] });
    await platform.run(async () => {
      const task = platform.kernel.spawn({ name: "program" });
      await task.exit();
      await expect(task.open("/dev/none", O.RDWR)).rejects.toThrow("ESRCH: task 1 (program) has exited");
      await expect(task.fork()).rejects.toThrow("ESRCH");
      expect(() => task.memory).toThrow("ESRCH");
    });
    expect(await platform.close()).toEqual([]);
  });

  it("keeps nothing open that was being opened", async () => {
    const platform = await createPlatform({ iommus: [] });
    let released = 0;
    platform.kernel.nodes.set("/dev/slow", {
      path: "/dev/slow",
      async open(): Promise<FileOps> {
        await platform.scheduler.sleep(100);
        return { name: "/dev/slow", release: async () => void released++ };
      },
    });
    await platform.run(async () => {
      const task = platform.kernel.spawn({ name: "program" });
      let error: unknown;
      platform.scheduler.spawn("open", async () => {
        error = await task.open("/dev/slow", O.RDWR).catch((thrown: unknown) => thrown);
      });
      await platform.scheduler.sleep(50);
      await task.exit();
      await platform.scheduler.sleep(100);
      expect(error).toMatchObject({ code: "ESRCH" });
      expect([released, task.fds.open]).toEqual([1, []]);
    });
  });
});

describe("a process that another may trace (F28)", () => {
  const like = (gids: Partial<Credentials>) => ({ ...user(1000), gid: 5, ...gids });

  it.each([
    ["of the same group", like({}), true],
    ["of another group", like({ gid: 6 }), false],
    ["that has started a set-group-ID program", like({ egid: 6 }), false],
    ["that keeps another saved group", like({ sgid: 6 }), false],
  ])("is one %s", async (_which, credentials, may) => {
    const platform = await createPlatform({ iommus: [] });
    await platform.run(async () => {
      const { kernel } = platform;
      const caller = kernel.spawn({ credentials: like({}) });
      const target = kernel.spawn({ credentials });
      const found = await kernel.mmAccess(caller, target.pid).catch(({ code }: { code: string }) => code);
      expect(found).toBe(may ? target.mm : "EACCES");
      if (may) await target.mm?.mmput();
    });
    expect(await platform.close()).toEqual([]);
  });
});
