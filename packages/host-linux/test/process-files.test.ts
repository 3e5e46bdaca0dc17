import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { LiveFrames, ProcessFiles } from "../src/index.js";

const linux = process.platform === "linux";

/** A process of ours that does nothing until it is killed. */
async function child(): Promise<{ pid: number; kill: () => Promise<void> }> {
  const sleeper = spawn("sleep", ["1000"], { stdio: "ignore" });
  await once(sleeper, "spawn");
  return {
    pid: sleeper.pid ?? 0,
    async kill() {
      const exit = once(sleeper, "exit");
      sleeper.kill("SIGKILL");
      await exit;
    },
  };
}

describe.runIf(linux)("ProcessFiles", () => {
  it("reads the mapped ELF file of a process as it is on disk, and notices its end", async () => {
    const { pid, kill } = await child();
    const files = ProcessFiles.open(pid);
    if (!files) throw new Error("no such process");
    const elf = files.maps().find(({ name, offset }) => name.endsWith("/sleep") && offset === 0);
    expect(elf).toBeDefined();
    const bytes = new Uint8Array(4096);
    expect(files.read(elf?.start ?? 0n, bytes)).toBe(4096);
    expect(Buffer.from(bytes).equals(readFileSync(elf?.name ?? "").subarray(0, 4096))).toBe(true);
    expect(files.resident(elf?.start ?? 0n, 1)).toEqual([true]);
    expect(files.read(0n, bytes)).toBe(0);
    expect(files.alive()).toBe(true);
    await kill();
    expect(files.alive()).toBe(false);
    expect(files.read(elf?.start ?? 0n, bytes)).toBe(0);
    files.close();
  });

  it("says that a process does not exist", () => {
    expect(ProcessFiles.open(4_194_305)).toBeUndefined();
  });

  it("gives a frame the bytes of its page, both ways", async () => {
    const { pid, kill } = await child();
    const files = ProcessFiles.open(pid);
    const stack = files?.maps().find(({ name }) => name === "[stack]");
    if (!files || !stack) throw new Error("no stack");
    const frames = new LiveFrames();
    const first = frames.allocate(files, stack.end - 8192n);
    const second = frames.allocate(files, stack.end - 4096n);
    expect(second - first).toBe(4096);
    const bytes = Uint8Array.from([1, 2, 3, 4]);
    expect(frames.write(first - frames.base + 4094, bytes)).toBe(true);
    const back = new Uint8Array(4);
    expect(files.read(stack.end - 4098n, back)).toBe(4);
    expect(back).toEqual(bytes);
    frames.free(first);
    expect(frames.read(first - frames.base, back)).toBe(false);
    expect(frames.used).toBe(1);
    await kill();
    expect(frames.read(second - frames.base, back)).toBe(false);
    files.close();
  });
});
