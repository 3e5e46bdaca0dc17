import { describe, expect, it } from "vitest";
import { createPlatform, type FileOps, O } from "../../src/index.js";

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
