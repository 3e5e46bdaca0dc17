import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadFile } from "../src/load.js";
import { Report } from "../src/report.js";
import { run } from "../src/runners/smmu-script.js";
import type { ScriptCase } from "../src/script/device-script.js";

async function answers(...cases: ScriptCase[]): Promise<string[]> {
  const lines: string[] = [];
  const report = new Report((line) => lines.push(line));
  await run([{ path: "", name: "scripts", document: { cases }, records: [] }], report);
  return [...lines, report.lastLine];
}

const EVENT_QUEUE = [
  { op: "mmio_write", width: 64, off: "0xa0", value: "0x20004" },
  { op: "mmio_write", width: 32, off: "0x20", value: "0x4" },
];

describe("smmu-script", () => {
  it("agrees with the scripts of OpenVMM and QEMU", async () => {
    const file = loadFile(join(import.meta.dirname, "../vectors/peers/smmu_device_scripts.json.gz"));
    const lines: string[] = [];
    const report = new Report((line) => lines.push(line));
    await run([file], report);
    expect([report.finish(), report.passed]).toEqual([0, 31]);
    expect(lines[0]).toMatch(/^not applicable: 1 × peer policy, msi_config_registers: /);
  });

  it.each([
    ["C_BAD_STREAMID", 0x02],
    ["F_STE_FETCH", 0x03],
    ["C_BAD_STE", 0x04],
    ["F_CD_FETCH", 0x09],
    ["C_BAD_CD", 0x0a],
    ["F_WALK_EABT", 0x0b],
    ["F_TRANSLATION", 0x10],
    ["F_ADDR_SIZE", 0x11],
    ["F_ACCESS", 0x12],
    ["F_PERMISSION", 0x13],
  ])("makes the chip record %s", async (event, id) => {
    const script = {
      name: event,
      steps: [
        ...EVENT_QUEUE,
        { op: "record_event", event, event_id: `0x${id.toString(16)}`, sid: 42, input_addr: "0x10000000", write: true },
        { op: "mmio_read", width: 32, off: "0x100a8", expect: "0x1", mask: "0xffffffff" },
        { op: "mem_expect_fields", addr: "0x20000", fields: { "event_id[7:0]": id, "sid[63:32]": "0x2a" } },
        { op: "mmio_read", width: 64, off: "0x80", expect: "0x0" },
      ],
    };
    expect(await answers(script)).toEqual(["1 passed, 0 failed"]);
  });

  it.each(["0xdeadbeef0000", "0xffffdeadbeef0000"])("makes the chip record an event at %s", async (address) => {
    const fields = { "event_id[7:0]": "0x12", "input_addr[191:128]": address };
    const steps = [
      ...EVENT_QUEUE,
      { op: "record_event", event: "F_ACCESS", sid: 5, input_addr: address, write: true },
      { op: "mem_expect_fields", addr: "0x20000", fields },
    ];
    expect(await answers({ name: "a", steps })).toEqual(["1 passed, 0 failed"]);
  });

  it("sets register fields from the hardware's side, and takes features by the names of their fields", async () => {
    const steps = [
      { op: "mmio_read", width: 32, off: "0x0", expect: "0x400", mask: "0x10400" },
      { op: "inject", what: "toggle GERROR.CMDQ_ERR" },
      { op: "mmio_read", width: 32, off: "0x60", expect: "0x1" },
    ];
    expect(await answers({ name: "a", steps, config: { ats: 1, pri: 0 } })).toEqual(["1 passed, 0 failed"]);
  });

  it.each([
    ["a page of another size", { sid: 0, iova: "0x1000", expect: { pa: "0x1000", page_size: "0x1000" } }, "a page of"],
    ["another event", { sid: 1, iova: "0x1000", expect: "F_TRANSLATION" }, "got C_BAD_STREAMID"],
    ["a translation", { sid: 0, iova: "0x1000", expect: "ABORT_NO_EVENT" }, "expected ABORT_NO_EVENT, got 0x1000"],
    [
      "an event that is lost only for want of a queue",
      { sid: 0, iova: "0x1000000000000000", expect: "ABORT_NO_EVENT" },
      "got F_ADDR_SIZE",
    ],
  ])("does not agree with %s", async (_, step, says) => {
    const bypass = [
      { op: "mmio_write", width: 64, off: "0x80", value: "0x30000" },
      { op: "mem_write", width: 64, addr: "0x30000", value: "0x9" },
      { op: "mmio_write", width: 32, off: "0x20", value: "0x1" },
    ];
    const lines = await answers({ name: "a", steps: [...bypass, { op: "translate", write: false, ...step }] });
    expect([lines[0], lines.at(-1)]).toEqual([expect.stringContaining(says), "0 passed, 1 failed"]);
  });

  it("translates where a device's interrupt goes; an event that CD.R or CR2.RECINVSID keeps silent is none", async () => {
    const bypass = [
      { op: "mmio_write", width: 64, off: "0x80", value: "0x30000" },
      { op: "mem_write", width: 64, addr: "0x30000", value: "0x9" },
      { op: "mmio_write", width: 32, off: "0x20", value: "0x1" },
    ];
    const message = { op: "msi", rid: "0x0", addr: "0xfee00010", data: "0x1" };
    const steps = [
      ...bypass,
      { ...message, expect: { addr: "0xfee00010", data: "0x1" } },
      { ...message, rid: "0x1", expect: "C_BAD_STREAMID" },
      { ...message, rid: "0x1", expect: "ABORT_NO_EVENT" },
    ];
    expect(await answers({ name: "a", steps })).toEqual(["1 passed, 0 failed"]);
    const stale = { op: "msi", rid: "0x0", addr: "0x10", data: "0x1", expect: { addr: "0x20" } };
    expect((await answers({ name: "a", steps: [...bypass, stale] }))[0]).toContain("expected 0x20, got 0x10");
  });

  it("says so when it cannot provoke an event or knows no such step", async () => {
    const steps = [{ op: "record_event", event: "F_UUT", event_id: "0x1", sid: 0 }];
    expect(await answers({ name: "a", steps }, { name: "b", steps: [{ op: "dance" }] })).toEqual([
      "FAIL scripts a: step 1 (record_event): event 0x1 cannot be provoked here",
      "FAIL scripts b: device script: unknown step dance",
      "0 passed, 2 failed",
    ]);
  });

  it("compares what a device reads through the SMMU, and that it reads nothing", async () => {
    const gbpa = { op: "mmio_write", width: 32, off: "0x44", value: "0x80100000" };
    const memory = { op: "mem_write", width: 32, addr: "0x1000", value: "0x44332211" };
    const read = { op: "dma_read", sid: 1, iova: "0x1000", len: 4, expect: { pa: "0x1000", bytes: "11223344" } };
    const refused = { op: "dma_read", sid: 1, iova: "0x1000", len: 4, expect: "ABORT_NO_EVENT" };
    expect(await answers({ name: "a", steps: [memory, read, gbpa, refused] })).toEqual(["1 passed, 0 failed"]);
    // A requester is a stream; bytes may stand in the step, an event be a number.
    const plain = { op: "dma_read", rid: "0x1", iova: "0x1000", len: 4, bytes: "11223344" };
    const enable = { op: "mmio_write", width: 32, off: "0x20", value: "0x1" };
    const cr2 = { op: "mmio_write", width: 32, off: "0x2c", value: "0x2" };
    const numbered = { op: "translate", rid: "0x1", iova: "0x0", write: false, expect: { event_id: "0x2" } };
    expect(await answers({ name: "a", steps: [memory, plain, cr2, enable, numbered] })).toEqual(["1 passed, 0 failed"]);
    const wrong = { ...read, expect: { pa: "0x1000", bytes: "99999999" } };
    expect(await answers({ name: "a", steps: [memory, wrong] })).toEqual([
      'FAIL scripts a: step 2 (dma_read): bytes: expected "99999999", got 11223344',
      "0 passed, 1 failed",
    ]);
  });
});
