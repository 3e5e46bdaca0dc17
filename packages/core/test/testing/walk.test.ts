import { describe, expect, it } from "vitest";
import { explain } from "../../src/index.js";
import { expectNoLeaks, leakCheck, walkPageTable } from "../../src/testing/index.js";
import { withMm } from "../mm/world.js";

describe("walkPageTable", () => {
  it("shows each entry on the way, and what the last one allows", () =>
    withMm(async (mm, world) => {
      const at = await mm.mmap({ length: 4096, prot: "rx", address: 0x4000_0000n, populate: true });
      const arm = walkPageTable(world.memory, mm.pageTable("vmsav8-64"), at + 5n);
      expect(arm.steps.map(({ layout, index }) => `${layout.name} ${index}`)).toEqual([
        "VMSAv8-64 table descriptor 0",
        "VMSAv8-64 table descriptor 1",
        "VMSAv8-64 table descriptor 0",
        "VMSAv8-64 page descriptor 0",
      ]);
      expect(arm).toMatchObject({ shift: 12, read: true, write: false, exec: true, accessed: true });
      expect((arm.pa ?? 0) % 4096).toBe(5);
      expect(explain(arm.steps[3].layout, arm.steps[3].words)).toContain("UXN[54]");
      const x86 = walkPageTable(world.memory, mm.pageTable("x86-64"), at + 5n);
      expect([x86.pa, x86.exec, x86.write, x86.steps.length]).toEqual([arm.pa, true, false, 4]);
      expect(walkPageTable(world.memory, mm.pageTable("x86-64"), at + 4096n)).toMatchObject({
        pa: undefined,
        read: false,
      });
    }));

  it("refuses an entry with a reserved bit", () =>
    withMm(async (mm, world) => {
      const at = await mm.mmap({ length: 4096, populate: true });
      const table = mm.pageTable("vmsav8-64");
      const { address, value } = walkPageTable(world.memory, table, at).steps[0];
      world.memory.store32(address + 4, Number(value >> 32n) | (1 << 17));
      expect(() => walkPageTable(world.memory, table, at)).toThrow("has a reserved bit set");
    }));
});

describe("leakCheck", () => {
  it("lists what is in use beyond what was there before, by owner", () =>
    withMm(async (mm, world) => {
      await mm.mmap({ length: 4096, populate: true });
      const check = leakCheck(world);
      expect(check()).toEqual([]);
      const at = await mm.mmap({ length: 2 * 4096, populate: true });
      expect(check()).toEqual(["2 pages of pid 7 anon"]);
      expect(() => expectNoLeaks(check)).toThrow("leaked: 2 pages of pid 7 anon");
      await mm.munmap(at, 2 * 4096);
      expectNoLeaks(check);
    }));
});
