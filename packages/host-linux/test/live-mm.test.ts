import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { Access, createPlatform, PageFlag, type Platform, user } from "@iommukit/core";
import { afterEach, describe, expect, it } from "vitest";
import { type LiveMm, liveProcesses } from "../src/index.js";

const linux = process.platform === "linux";
const python = linux && spawnSync("python3", ["--version"]).status === 0;
/** Maps two pages, then makes the first read-only and unmaps the second. */
const PROGRAM = `
import ctypes, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
at = libc.mmap(None, 8192, 3, 0x22, -1, 0)
ctypes.memset(at, 7, 8192)
for line in sys.stdin:
    if line.strip() == "change":
        libc.mprotect(at, 4096, 1)
        libc.munmap(at + 4096, 4096)
    print(at, flush=True)
`;
if (!python) console.warn("no python3: a process that unmaps is not tested");
const closers: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function sleeper() {
  const child = spawn("sleep", ["1000"], { stdio: "ignore" });
  await once(child, "spawn");
  const kill = async () => {
    if (child.signalCode !== null) return;
    const exit = once(child, "exit");
    child.kill("SIGKILL");
    await exit;
  };
  closers.push(kill);
  return { pid: child.pid ?? 0, kill };
}

async function machine() {
  const live = liveProcesses();
  const platform = await createPlatform({ iommus: [], services: [live] });
  closers.push(async () => expect(await platform.close()).toEqual([]));
  const find = async (pid: number) => {
    const task = platform.kernel.spawn({ name: "finder" });
    const mm = (await platform.kernel.mmAccess(task, pid)) as LiveMm;
    await task.exit();
    return mm;
  };
  return { platform, live, find };
}

function inWorld<T>(platform: Platform, body: () => Promise<T>): Promise<T> {
  return platform.run(body);
}

describe.runIf(linux)("LiveMm", () => {
  it("shows a running process's pages in both table formats, and its bytes at the frames", async () => {
    const { pid } = await sleeper();
    const { platform, live, find } = await machine();
    await inWorld(platform, async () => {
      const mm = await find(pid);
      const elf = mm.vmas().find(({ name, offset }) => name.endsWith("/sleep") && offset === 0);
      if (!elf) throw new Error("no ELF mapping");
      expect(await mm.fault(elf.start, Access.READ)).toBe("ok");
      const arm = mm.pageTable("vmsav8-64").lookup(elf.start);
      const x86 = mm.pageTable("x86-64").lookup(elf.start);
      expect(arm?.pa).toBe(x86?.pa);
      const bytes = new Uint8Array(64);
      expect(platform.bus.read(arm?.pa ?? 0, bytes)).toBe(true);
      expect(Buffer.from(bytes).equals(readFileSync(elf.name).subarray(0, 64))).toBe(true);
      expect(live.frames.used).toBe(1);
      await mm.mmput();
    });
  });

  it("enforces the permissions that /proc/PID/mem ignores", async () => {
    const { pid } = await sleeper();
    const { platform, find } = await machine();
    await inWorld(platform, async () => {
      const mm = await find(pid);
      const text = mm.vmas().find(({ exec, write }) => exec && !write);
      const stack = mm.vmas().find(({ name }) => name === "[stack]");
      expect(await mm.fault(text?.start ?? 0n, Access.WRITE)).toBe("segv");
      expect(await mm.write(text?.start ?? 0n, new Uint8Array(4))).toBe(0);
      expect(await mm.fault(stack ? stack.end - 8n : 0n, Access.WRITE)).toBe("ok");
      expect(await mm.fault(stack ? stack.start - 4096n : 0n, Access.WRITE)).toBe("segv");
      expect(await mm.fault(0xffff_ffff_ff60_0000n, Access.READ)).toBe("segv");
      await mm.mmput();
    });
  });

  it("pins pages that follow one another in frames that do, up to the end of their mapping", async () => {
    const { pid } = await sleeper();
    const { platform, live, find } = await machine();
    await inWorld(platform, async () => {
      const mm = await find(pid);
      const elf = mm.vmas().find(({ name, offset }) => name.endsWith("/sleep") && offset === 0);
      if (!elf) throw new Error("no ELF mapping");
      const pages = Number((elf.end - elf.start) / 4096n);
      const few = await mm.pin(elf.start, false, false, 2);
      const all = await mm.pin(elf.start, false, false, pages + 100);
      expect([few.pages, all.pages, all.pa]).toEqual([Math.min(2, pages), pages, few.pa]);
      const bytes = new Uint8Array(pages * 4096);
      expect(platform.bus.read(all.pa, bytes)).toBe(true);
      expect(Buffer.from(bytes).equals(readFileSync(elf.name).subarray(0, bytes.length))).toBe(true);
      few.unpin();
      // Pages that go while they are pinned keep their frames, and give them back with the pin.
      await mm.forget(elf.start, elf.end);
      expect(live.frames.used).toBe(pages);
      all.unpin();
      expect(live.frames.used).toBe(0);
      const again = await mm.pin(elf.start, false);
      expect(again.pa).toBe(all.pa);
      again.unpin();
      await mm.mmput();
    });
  });

  it("keeps a page that another thread unmaps while it is pinned", async () => {
    const { pid } = await sleeper();
    const { platform, live, find } = await machine();
    await inWorld(platform, async () => {
      const mm = await find(pid);
      const stack = mm.vmas().find(({ name }) => name === "[stack]");
      const page = (stack?.end ?? 0n) - 4096n;
      let unpin = () => {};
      // Both wait for the lock: the unmap comes between the pin's fault and its end.
      await mm.mmapLock.with(async () => {
        platform.scheduler.spawn("pin", async () => {
          const pinned = await mm.pin(page, false);
          unpin = () => pinned.unpin();
        });
        platform.scheduler.spawn("unmap", () => mm.forget(page, page + 4096n));
        await platform.scheduler.idle();
      });
      await platform.scheduler.idle();
      expect([mm.mappings.pages.size, live.frames.used]).toEqual([0, 1]);
      unpin();
      expect(live.frames.used).toBe(0);
      await mm.mmput();
    });
  });

  it("ends with its process: notifiers hear release, frames are given back", async () => {
    const { pid, kill } = await sleeper();
    const { platform, live, find } = await machine();
    const heard: string[] = [];
    const mm = await inWorld(platform, async () => {
      const found = await find(pid);
      found.registerNotifier({
        release: async () => void heard.push("release"),
        invalidateRange: async () => {},
        clearFlushYoung: async () => false,
        changePte: async () => {},
      });
      await found.fault(found.vmas()[0].start, Access.READ);
      await found.mmput();
      return found;
    });
    await kill();
    await inWorld(platform, () => live.refresh());
    expect(heard).toEqual(["release"]);
    expect(mm.gone).toBe(true);
    expect(live.frames.used).toBe(0);
    await inWorld(platform, async () => {
      const task = platform.kernel.spawn();
      await expect(platform.kernel.mmAccess(task, pid)).rejects.toThrow(`ESRCH: no process has pid ${pid}`);
      await task.exit();
    });
  });

  it("ends when its process runs another program", async () => {
    const child = spawn("sh", ["-c", "read line; exec sleep 1000"], { stdio: ["pipe", "ignore", "ignore"] });
    await once(child, "spawn");
    closers.push(async () => void child.kill("SIGKILL"));
    const { platform, live, find } = await machine();
    const mm = await inWorld(platform, () => find(child.pid ?? 0));
    child.stdin.write("go\n");
    while (!readFileSync(`/proc/${child.pid}/cmdline`, "latin1").startsWith("sleep")) await setTimeout(5);
    await inWorld(platform, async () => {
      await live.refresh();
      expect(mm.gone).toBe(true);
      await mm.mmput();
      const again = await find(child.pid ?? 0);
      expect(again).not.toBe(mm);
      expect(again.vmas().some(({ name }) => name.endsWith("/sleep"))).toBe(true);
      await again.mmput();
    });
  });

  it.runIf(python)("takes pages out of the tables when the process unmaps or protects them", async () => {
    const child = spawn("python3", ["-c", PROGRAM], { stdio: ["pipe", "pipe", "inherit"] });
    closers.push(async () => void child.kill("SIGKILL"));
    const say = async (line: string) => {
      const answer = once(child.stdout, "data");
      child.stdin.write(`${line}\n`);
      return Number(String((await answer)[0]));
    };
    const at = BigInt(await say("map"));
    const { platform, live, find } = await machine();
    const mm = await inWorld(platform, async () => {
      const found = await find(child.pid ?? 0);
      for (const page of [0n, 4096n]) expect(await found.fault(at + page, Access.WRITE)).toBe("ok");
      found.pageTable("x86-64");
      return found;
    });
    await say("change");
    await inWorld(platform, async () => {
      await live.refresh();
      expect(mm.pageTable("x86-64").lookup(at)?.flags ?? 0).not.toBe(0);
      expect((mm.pageTable("x86-64").lookup(at)?.flags ?? 0) & PageFlag.WRITE).toBe(0);
      expect(mm.pageTable("x86-64").lookup(at + 4096n)).toBeUndefined();
      expect(await mm.fault(at, Access.WRITE)).toBe("segv");
      expect(live.frames.used).toBe(1);
      await mm.mmput();
    });
  });

  it("is one for all threads of a process, whichever is named", async () => {
    const { platform, find } = await machine();
    const threads = readdirSync("/proc/self/task").map(Number);
    expect(threads.length).toBeGreaterThan(1);
    await inWorld(platform, async () => {
      const found = [];
      for (const tid of threads) found.push(await find(tid));
      expect(new Set(found).size).toBe(1);
      for (const mm of found) await mm.mmput();
    });
  });

  it("denies what the host's kernel denies", async () => {
    const { platform } = await machine();
    await inWorld(platform, async () => {
      const task = platform.kernel.spawn({ credentials: user(1000) });
      await expect(platform.kernel.mmAccess(task, 4_194_305)).rejects.toThrow("ESRCH");
      // Kernel threads have no address space: their maps are empty.
      await expect(platform.kernel.mmAccess(task, 2)).rejects.toThrow(/ESRCH|EACCES|EPERM/);
      await task.exit();
    });
  });
});
