import { describe, expect, it } from "vitest";
import { createPlatform, type FileOps, O } from "../../src/index.js";

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
