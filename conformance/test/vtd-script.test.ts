import { fileURLToPath } from "node:url";
import { SlabMemory } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { loadFile } from "../src/load.js";
import { Report } from "../src/report.js";
import { runCase, type ScriptCase, type ScriptedDevice } from "../src/runners/device-script.js";
import { run } from "../src/runners/vtd-script.js";

describe("vtd-script", () => {
  it("agrees with the scripts of OpenVMM, QEMU and kvm-unit-tests", async () => {
    const lines: string[] = [];
    const report = new Report((line) => lines.push(line));
    await run(
      [loadFile(fileURLToPath(new URL("../vectors/peers/vtd_device_scripts.json.gz", import.meta.url)))],
      report,
    );
    expect([report.finish(), report.passed]).toEqual([0, 25]);
    expect(lines.filter((line) => line.startsWith("not applicable"))).toHaveLength(2);
  });
});

describe("device scripts", () => {
  const device = (registers: Map<number, bigint>): ScriptedDevice => ({
    memory: new SlabMemory([{ base: 0, size: 0x10000 }]),
    mmio: {
      read32: (offset) => Number((registers.get(offset & ~7) ?? 0n) >> BigInt((offset & 4) * 8)) >>> 0,
      write32: (offset, value) => void registers.set(offset, BigInt(value)),
      read64: (offset) => registers.get(offset) ?? 0n,
      write64: (offset, value) => void registers.set(offset, value),
    },
    step: () => undefined,
  });
  const script = (...steps: ScriptCase["steps"]): ScriptCase => ({ name: "one", steps });

  it("name the step and the bits that differ", () => {
    const each = script(
      { op: "mmio_write", width: 64, off: "0x8", value: "0x5" },
      { op: "mmio_read", width: 32, off: 8, expect: "0x6", mask: "0xf" },
    );
    expect(runCase(device(new Map()), each)).toBe("step 2 (mmio_read): register 0x8: expected 0x6, got 0x5 (mask 0xf)");
  });

  it("skip differences that are marked as not portable", () => {
    expect(
      runCase(
        device(new Map()),
        script({ op: "mmio_read", width: 32, off: 0, expect: "0x6", portability: "a default" }),
      ),
    ).toBe("");
  });

  it("write, clear and compare memory, whole and by fields", () => {
    const each = script(
      { op: "mem_write", width: 64, addr: "0x103", value: "0x1122334455667788" },
      { op: "mem_expect", width: 32, addr: "0x103", value: "0x55667788" },
      { op: "mem_expect_fields", addr: "0x103", fields: { "low[7:0]": "0x88", "top(bit 60)": 1, "mid[39:32]": 0x44 } },
      { op: "mem_zero", addr: "0x100", len: 16 },
      { op: "mem_expect", width: 64, addr: "0x103", value: "0x0" },
    );
    expect(runCase(device(new Map()), each)).toBe("");
  });

  it("compare a register with what it was, and its halves with the whole", () => {
    const each = script(
      { op: "mmio_write", width: 64, off: 16, value: "0x1_0000_0002".replaceAll("_", "") },
      { op: "mmio_read_save", width: 64, off: 16, as: "a" },
      { op: "mmio_read_same", width: 64, off: 16, as: "a" },
      { op: "mmio_read_halves_equal", off: 16 },
      { op: "mmio_read_raw", len: 1, off: 16 },
      { op: "note", text: "nothing" },
    );
    expect(runCase(device(new Map()), each)).toBe("");
    expect(runCase(device(new Map()), script({ op: "mmio_write_raw", len: 8, off: 0 }))).toContain("is not refused");
  });

  it("refuse a step that nobody knows", () => {
    expect(() => runCase(device(new Map()), script({ op: "dance" }))).toThrow("unknown step dance");
  });
});
