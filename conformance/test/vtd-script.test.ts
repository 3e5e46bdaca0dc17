import { fileURLToPath } from "node:url";
import { SlabMemory } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { loadFile } from "../src/load.js";
import { Report } from "../src/report.js";
import { run } from "../src/runners/vtd-script.js";
import { runCase, type ScriptCase, type ScriptedDevice } from "../src/script/device-script.js";
import { bytesOf, bytesToHex } from "../src/script/values.js";

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

describe("vtd-script, of what a file may hold", () => {
  async function judge(steps: ScriptCase["steps"], config: ScriptCase["config"] = {}, more: Partial<ScriptCase> = {}) {
    const lines: string[] = [];
    const report = new Report((line) => lines.push(line));
    const document = { cases: [{ name: "one", config, steps, ...more }] };
    await run([{ path: "f", name: "f", document, records: [] }], report);
    report.finish();
    return lines;
  }
  const put = (addr: string, value: string) => ({ op: "mem_write", width: 64, addr, value });
  const set = (off: string, width: number, value: string) => ({ op: "mmio_write", width, off, value });
  /** Legacy mode: a 4-level second stage for device 0x10 that maps 0x1000 and 0x2000 to pages that are not neighbours. */
  const mapped = [
    put("0x10000", "0x11001"),
    put("0x11100", "0x20001"),
    put("0x11108", "0x702"),
    put("0x20000", "0x21003"),
    put("0x21000", "0x22003"),
    put("0x22000", "0x23003"),
    put("0x23008", "0x80003"),
    put("0x23010", "0x70001"),
    set("0x20", 64, "0x10000"),
    set("0x18", 32, "0x40000000"),
    set("0x18", 32, "0x80000000"),
  ];

  it("copies a device's access page by page", async () => {
    const lines = await judge([
      ...mapped,
      put("0x80ff8", "0x8877665544332211"),
      put("0x70000", "0xaa99"),
      { op: "dma_read", rid: "0x10", iova: "0x1ffc", len: 6, expect: { pa: "0x80ffc", bytes: "5566778899aa" } },
      { op: "dma_write", rid: "0x10", iova: "0x2000", len: 4, bytes: "01020304", expect: { fault_reason: "0x5" } },
      { op: "translate", rid: "0x10", iova: "0x1234", write: false, expect: { pa: "0x80234", page_size: "0x1000" } },
      { op: "translate", rid: "0x10", iova: "0x5000", write: false, expect: "ANY_ERROR" },
    ]);
    expect(lines).toEqual(["1 passed, 0 failed"]);
  });

  it("checks no more than a step expects: an address, bytes, any fault, or nothing", async () => {
    const steps = [
      { op: "dma_read", rid: 16, iova: 0x1000, len: 2, expect: { bytes: "0000" } },
      { op: "dma_read", rid: 16, iova: 0x1000, len: 2 },
      { op: "translate", rid: 16, iova: 0x1000, expect: "0x80000" },
      { op: "translate", rid: 16, iova: 0x9000 },
      { op: "translate", rid: 16, iova: 0x9000, expect: "READ_ACCESS_DENIED" },
      { op: "dma_read", rid: 16, iova: 0x9000, len: 2, expect: { fault: "READ_ACCESS_DENIED" } },
    ];
    expect(await judge([...mapped, ...steps])).toEqual(["1 passed, 0 failed"]);
    expect((await judge([...mapped, { ...steps[0], iova: 0x9000 }]))[0]).toContain("fault 0x6");
  });

  it.each([
    ["a page of another size", { iova: "0x1234", expect: { pa: "0x80234", page_size: "0x200000" } }, "page size"],
    ["another reason", { iova: "0x9000", expect: { fault_reason: "0x5" } }, 'expected fault "0x5", got 0x6'],
    ["another APIC id", { op: "msi", addr: "0xfee01234", data: "0x42", expect: { apic_id: 2 } }, "APIC id"],
    ["other data", { op: "msi", addr: "0xfee01234", data: "0x42", expect: { data: "0x43" } }, "data"],
  ])("does not agree with %s", async (_, step, says) => {
    const lines = await judge([...mapped, { op: "translate", rid: "0x10", write: false, ...step }]);
    expect([lines[0], lines.at(-1)]).toEqual([expect.stringContaining(says), "0 passed, 1 failed"]);
  });

  it("finds a fault's record in whichever register it is", async () => {
    const record = (fi: string) => ({ F: 1, SID: "0x10", FR: "0x6", "T(type: 1=read)": 1, "FI(addr[63:12])": fi });
    const wrong = (iova: string) => ({
      op: "translate",
      rid: "0x10",
      iova,
      write: false,
      expect: { fault_reason: "0x6", frcd: record(iova) },
    });
    const config = { fro: "0x120", iro: "0x100", nfr: 3, mgaw: 48, sagaw: 6, scalable: 0 };
    expect(await judge([...mapped, wrong("0x3000"), wrong("0x4000")], config)).toEqual(["1 passed, 0 failed"]);
    const lines = await judge([...mapped, { ...wrong("0x3000"), expect: { frcd: record("0x9000") } }], config);
    expect(lines[0]).toMatch(/FRCD.FI\(addr\[63:12\]\): expected "0x9000", got 0x3000/);
  });

  it.each([
    ["a step", [{ op: "dance" }], {}, "unknown step dance"],
    ["a value", [{ op: "translate", rid: "many", iova: "0x0", write: false, expect: {} }], {}, "not a number"],
    ["a width", [{ op: "mem_write", width: 4096, addr: "0x0", value: "0x0" }], {}, "not a width"],
    ["a length", [{ op: "mem_zero", addr: "0x0", len: "0xffffffffff" }], {}, "not a length"],
    ["a register", [{ op: "inject", what: "FOO.BAR=1" }], {}, "no register field FOO.BAR"],
    ["a record", [{ op: "frcd_expect", index: 9, F: 1 }], {}, "no fault recording register 9"],
    ["a field", [{ op: "frcd_expect", index: 0, XYZ: 1 }], {}, "no field XYZ"],
    ["a change", [{ op: "inject", what: "FSTS.PFO" }], {}, "no register field FSTS.PFO"],
    [
      "a feature",
      [{ op: "mmio_read", width: 32, off: 0, expect: "0x99" }],
      { levitation: 1 },
      "got 0x10; the unit's levitation is not known",
    ],
  ])("reports %s that it does not know as a failure and goes on", async (_what, steps, config, line) => {
    const lines = await judge(steps, config);
    expect(lines[0]).toContain(line);
    expect(lines.at(-1)).toBe("0 passed, 1 failed");
  });

  it("takes features by the names of their register fields, and runs a script that names others", async () => {
    const config = { sc: 1, FS5LP: 1, nd: 2, levitation: 1 };
    const steps = [
      { op: "mmio_read", width: 64, off: 8, expect: "0x1000000000000002", mask: "0x1000000000000007" },
      { op: "mmio_read", width: 64, off: 16, expect: "0x80", mask: "0x80" },
    ];
    expect(await judge(steps, config)).toEqual(["1 passed, 0 failed"]);
  });

  it.each(["FRCD.F=1", "FRCD[0].F=1", "FRCD_HI.F=1", "toggle FRCD0.F", "FSTS.PFO=0, FRCD[0].F toggled"])(
    "takes %s for a pending fault, which software clears",
    async (what) => {
      const steps = [
        { op: "inject", what },
        { op: "mmio_read", width: 32, off: "0x34", expect: "0x2", mask: "0x3" },
        set("0x128", 64, "0x8000000000000000"),
        { op: "mmio_read", width: 32, off: "0x34", expect: "0x0", mask: "0x3" },
      ];
      expect(await judge(steps, { fro: "0x120", iro: "0x100" })).toEqual(["1 passed, 0 failed"]);
    },
  );

  it("knows a message that passes, one that is dropped, and the record of one that is blocked", async () => {
    const message = { op: "msi", rid: "0x10", addr: "0xfee01234", data: "0x42" };
    const blocked = { fault: "COMPATIBILITY_FORMAT_BLOCKED", frcd: { F: 1, SID: "0x10", FR: "0x25" } };
    const steps = [
      { ...message, expect: "passthrough" },
      set("0xb8", 64, "0x18000f"),
      set("0x18", 32, "0x1000000"),
      set("0x18", 32, "0x2000000"),
      { ...message, addr: "0xfee01204", expect: blocked },
      { ...message, addr: "0xfee01204", expect: { dropped: true } },
    ];
    expect(await judge(steps)).toEqual(["1 passed, 0 failed"]);
    expect((await judge([{ ...message, expect: "dropped" }]))[0]).toContain(
      "expected fault of any kind, got an interrupt",
    );
  });

  it("compares an interrupt's record, whose index stands in bits 63:48", async () => {
    const steps = [
      set("0xb8", 64, "0x18000f"),
      set("0x18", 32, "0x1000000"),
      set("0x18", 32, "0x2000000"),
      { op: "msi", rid: "0x1234", addr: "0xfee0aab0", data: "0x0", expect: { fault_reason: "0x22" } },
      { op: "frcd_expect", index: 0, F: 1, SID: "0x1234", FR: "0x22", FI: "0x5555000000000000" },
    ];
    expect((await judge(steps))[0]).toContain('expected "0x5555000000000000", got 0x555000000000000');
    expect(await judge([...steps.slice(0, -1), { ...steps[4], FI: "0x555000000000000" }])).toEqual([
      "1 passed, 0 failed",
    ]);
  });

  it("passes requests through where the script's unit is OpenVMM's", async () => {
    const lines = await judge(
      [
        put("0x10000", "0x11001"),
        put("0x11100", "0x9"),
        put("0x11108", "0x102"),
        set("0x20", 64, "0x10000"),
        set("0x18", 32, "0x40000000"),
        set("0x18", 32, "0x80000000"),
        { op: "translate", rid: "0x10", iova: "0xabcd0000", write: false, expect: { pa: "0xabcd0000" } },
      ],
      { mgaw: 48, sagaw: 6, nfr: 0, fro: "0x120", iro: "0x100", scalable: 0 },
    );
    expect(lines).toEqual(["1 passed, 0 failed"]);
  });

  it("translates with a PASID and through the first stage where the script's unit is scalable", async () => {
    const lines = await judge(
      [
        put("0x10000", "0x11001"),
        put("0x11200", "0x12009"),
        put("0x12000", "0x13001"),
        put("0x13140", "0x41"),
        put("0x13148", "0x1"),
        put("0x13150", "0x20000"),
        put("0x20000", "0x21027"),
        put("0x21000", "0x22027"),
        put("0x22000", "0x23027"),
        put("0x23008", "0x80067"),
        set("0x20", 64, "0x10400"),
        set("0x18", 32, "0x40000000"),
        set("0x18", 32, "0x80000000"),
        { op: "translate", rid: "0x10", pasid: 5, iova: "0x1234", write: true, expect: { pa: "0x80234" } },
        { op: "translate", rid: "0x10", ssid: 5, iova: "0x1234", exec: true, expect: { fault_reason: "0x5c" } },
        { op: "translate", rid: "0x10", pasid: 5, iova: "0x1234", priv: true, expect: { fault_reason: "0x5d" } },
      ],
      { scalable: 1, pasid: 1 },
    );
    expect(lines).toEqual(["1 passed, 0 failed"]);
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

  it("take numbers, bytes and fields in every form that says what it means", () => {
    const each = script(
      { op: "mem_write", width: "16", addr: 0x104, value: 0xabcd },
      { op: "mem_expect", addr: "260", value: "0xFFFFABCD", mask: "0xffff" },
      { op: "mem_expect_fields", addr: 0x104, fields: { "top[15]": true, "next(bit 14)": false, "last bit 0": 1 } },
    );
    expect(runCase(device(new Map()), each)).toBe("");
    for (const bytes of ["abCD", "0xab cd", [0xab, "0xcd"]]) expect(bytesToHex(bytesOf(bytes))).toBe("abcd");
    expect(() => bytesOf("abc")).toThrow('not bytes in a device script: "abc"');
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
