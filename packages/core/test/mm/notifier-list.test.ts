import { describe, expect, it } from "vitest";
import type { MmuNotifier } from "../../src/index.js";
import { Listener, withMm } from "./world.js";

describe("mmu_notifier", () => {
  it("may unregister itself and others in a callback, and who is gone is not called", () =>
    withMm(async (mm) => {
      const [a, b, c] = [new Listener(), new Listener(), new Listener()];
      for (const listener of [a, b, c]) mm.registerNotifier(listener);
      a.meanwhile = async () => {
        mm.unregisterNotifier(a);
        mm.unregisterNotifier(b);
      };
      const at = await mm.mmap({ length: 4096, populate: true });
      await mm.munmap(at, 4096);
      expect([a, b, c].map(({ heard }) => heard.length)).toEqual([1, 0, 1]);
    }));

  it("may register in a callback and hears of the next change, not of this one", () =>
    withMm(async (mm) => {
      const [a, b] = [new Listener(), new Listener()];
      mm.registerNotifier(a);
      a.meanwhile = async (callback) => {
        if (callback === "invalidateRange") mm.registerNotifier(b);
        a.meanwhile = async () => {};
      };
      const at = await mm.mmap({ length: 2 * 4096, populate: true });
      await mm.munmap(at, 4096);
      expect(b.heard).toEqual([]);
      await mm.munmap(at + 4096n, 4096);
      expect(b.heard).toHaveLength(1);
    }));

  it("that unregisters another one's release keeps it from being called", () =>
    withMm(async (mm) => {
      const [a, b] = [new Listener(), new Listener()];
      mm.registerNotifier(a);
      mm.registerNotifier(b);
      a.meanwhile = async () => mm.unregisterNotifier(b);
      await mm.mmput();
      expect([a.heard, b.heard]).toEqual([["release"], []]);
    }));

  it("hears nothing after release, although the mappings go afterwards", () =>
    withMm(async (mm) => {
      const listener = new Listener();
      mm.registerNotifier(listener);
      await mm.mmap({ length: 4096, populate: true });
      await mm.mmput();
      expect(listener.heard).toEqual(["release"]);
    }));

  it("cannot be registered when the last user is gone: nobody would call release", () =>
    withMm(async (mm) => {
      mm.mmgrab();
      await mm.mmput();
      expect(() => mm.registerNotifier(new Listener())).toThrow("ESRCH");
      mm.mmdrop();
    }));

  it("is a bug to register twice", () =>
    withMm(async (mm) => {
      const listener: MmuNotifier = new Listener();
      mm.registerNotifier(listener);
      expect(() => mm.registerNotifier(listener)).toThrow("registered twice");
    }));

  it("answers for all of them whether a page was young, and clears every access flag (clear_flush_young)", () =>
    withMm(async (mm) => {
      const [a, b] = [new Listener(), new Listener()];
      mm.registerNotifier(a);
      mm.registerNotifier(b);
      const at = await mm.mmap({ length: 4096, populate: true });
      mm.pageTable("vmsav8-64");
      expect(await mm.age(at, 4096)).toBe(true);
      expect(await mm.age(at, 4096)).toBe(false);
      a.young = true;
      expect(await mm.age(at, 4096)).toBe(true);
      expect(b.heard).toHaveLength(3);
      expect(mm.pageTable("vmsav8-64").lookup(at)?.flags).toBe(4 | 1 | 16);
    }));
});
