import { Access, AtsStatus, NO_PASID, TranslationStatus } from "@iommukit/core";
import { beforeEach, describe, expect, it } from "vitest";
import { everything, qemu11Q35, sapphireRapidsLike, type VtdPreset } from "../../src/presets.js";
import { PASID_ENTRY } from "../../src/spec/pasid-table.js";
import { Bench, PASIDS, RAM } from "./bench.js";

const { READ, WRITE, PRIV, EXEC, TRANSLATED } = Access;
const { SUCCESS, UR, CA } = AtsStatus;
const PASID = 5;
const PAGE = RAM + 0x80_0000;

describe("translation requests", () => {
  let bench: Bench;
  let root: number;
  function setUp(
    entry: Record<string, unknown> = {},
    context: Record<string, unknown> = {},
    preset: VtdPreset = everything,
  ) {
    bench = new Bench(preset);
    root = bench.table();
    bench.scalable({ [PASID]: { PGTT: "firstStage", FSPTPTR: root, ...entry } }, context);
  }
  beforeEach(() => setUp());
  const permissions = () => [bench.ats.read, bench.ats.write];

  it("return what is permitted (4.2.3)", () => {
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | 7n, 7n);
    bench.map(root, 4, 0x2000n, BigInt(PAGE) | 5n, 7n);
    expect([bench.translationRequest(0x1000n, READ | WRITE, PASID), ...permissions(), bench.ats.shift]).toEqual([
      SUCCESS,
      true,
      true,
      12,
    ]);
    expect([bench.translationRequest(0x2000n, READ | WRITE, PASID), ...permissions()]).toEqual([SUCCESS, true, false]);
    expect(bench.ats).toMatchObject({
      execute: false,
      privileged: false,
      global: false,
      nonSnooped: false,
      untranslatedOnly: false,
    });
  });

  it("with NW get no write permission and mark nothing dirty, with NWFS (4.2.3.1)", () => {
    const leaf = bench.map(root, 4, 0x1000n, BigInt(PAGE) | 7n, 7n);
    bench.translationRequest(0x1000n, READ, PASID);
    expect([...permissions(), bench.load(leaf) & 0x60n]).toEqual([true, false, 0x20n]);
    setUp({}, {}, { ...everything, ecap: everything.ecap & ~(1n << 33n) });
    const other = bench.map(root, 4, 0x1000n, BigInt(PAGE) | 7n, 7n);
    bench.translationRequest(0x1000n, READ, PASID);
    expect([...permissions(), bench.load(other) & 0x60n]).toEqual([true, true, 0x60n]);
  });

  it("return large pages and PGSNP as N (table 10)", () => {
    setUp({ PGSNP: 1 });
    bench.map(root, 4, 0x4000_0000n, BigInt(PAGE) | 0x87n, 7n, 2);
    bench.translationRequest(0x4001_2000n, READ, PASID);
    expect([bench.ats.shift, bench.ats.hi, bench.ats.lo, bench.ats.nonSnooped]).toEqual([21, 1, 0x80_0000, true]);
  });

  it("meet recoverable faults as empty completions, without a record (7.1.2)", () => {
    for (const address of [0x1000n, 0x8000_0000_0000n]) {
      expect([bench.translationRequest(address, READ, PASID), ...permissions()]).toEqual([SUCCESS, false, false]);
    }
    expect(bench.translationRequest(0x1000n, READ, 9)).toBe(SUCCESS);
    expect(bench.status.PPF).toBe(false);
  });

  it("for supervisors need SRE, and say PRIV (4.2.3)", () => {
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | 1n, 1n);
    expect([bench.translationRequest(0x1000n, READ | PRIV, PASID), bench.ats.read, bench.ats.privileged]).toEqual([
      SUCCESS,
      false,
      true,
    ]);
    setUp({ SRE: 1 });
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | 1n, 1n);
    expect([bench.translationRequest(0x1000n, READ | PRIV, PASID), bench.ats.read, bench.ats.privileged]).toEqual([
      SUCCESS,
      true,
      true,
    ]);
    expect([bench.translationRequest(0x1000n, READ, PASID), bench.ats.read]).toEqual([SUCCESS, false]);
  });

  it("for execution need ERE", () => {
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | 7n, 7n);
    expect([bench.translationRequest(0x1000n, READ | EXEC, PASID), bench.ats.read]).toEqual([SUCCESS, false]);
    setUp({ ERE: 1 });
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | 7n, 7n);
    expect([bench.translationRequest(0x1000n, READ | EXEC, PASID), bench.ats.execute]).toEqual([SUCCESS, true]);
  });

  it("are refused where ATS is not for the device: UR, recorded (SCT.5)", () => {
    setUp({}, { DTE: 0, PRE: 0 });
    expect([bench.translationRequest(0x1000n, READ, PASID), bench.takeReason()]).toEqual([UR, 0x44]);
    bench.command("TE", false);
    expect([bench.translationRequest(0x1000n, READ, PASID), bench.takeReason()]).toEqual([UR, 0]);
  });

  it("are aborted by broken tables: CA, recorded", () => {
    setUp({ PGTT: 0 });
    expect([bench.translationRequest(0x1000n, READ, PASID), bench.takeReason()]).toEqual([CA, 0x5b]);
    setUp({ PGTT: "secondStage", AW: 2, SSPTPTR: 0x7_0000_0000 });
    expect([bench.translationRequest(0x1000n, READ, PASID), bench.takeReason()]).toEqual([CA, 0x7b]);
  });

  it("record a bit update that fails although they succeed (SFS.10)", () => {
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | 7n, 7n);
    bench.memory.compareExchange64 = () => false;
    expect([bench.translationRequest(0x1000n, READ, PASID), bench.ats.read, bench.takeReason()]).toEqual([
      SUCCESS,
      false,
      0x91,
    ]);
  });

  it("for the interrupt range: write only, untranslated (S.1, S.2)", () => {
    bench.put(PASIDS, PASID_ENTRY, { P: 1, PGTT: "passThrough" });
    expect([
      bench.translationRequest(0xfee0_0000n, READ | WRITE),
      ...permissions(),
      bench.ats.untranslatedOnly,
    ]).toEqual([SUCCESS, false, true, true]);
    expect([bench.translationRequest(0xfee0_0000n, READ), ...permissions(), bench.ats.untranslatedOnly]).toEqual([
      SUCCESS,
      false,
      false,
      false,
    ]);
  });

  it("are aborted when the page overlaps the interrupt range (SGN.8.2)", () => {
    bench.map(root, 4, 0x4000_0000n, 0xfee0_0087n, 7n, 2);
    expect([bench.translationRequest(0x401f_0000n, READ, PASID), bench.takeReason()]).toEqual([CA, 0x87]);
  });

  it("for pass-through get a region as large as possible", () => {
    bench.put(PASIDS, PASID_ENTRY, { P: 1, PGTT: "passThrough" });
    bench.translationRequest(0x1234_5678_9000n, READ | WRITE);
    expect([bench.ats.shift, bench.ats.hi, bench.ats.lo]).toEqual([30, 0x1234, 0x4000_0000]);
  });

  it("in legacy mode need TT = 01b (LCT.5), and no PASID (RTA.2)", () => {
    for (const [type, status, reason] of [
      [0, UR, 0x0d],
      [2, UR, 0x0d],
      [1, SUCCESS, 0],
    ] as const) {
      const legacy = new Bench(everything);
      const table = legacy.table();
      legacy.legacy({ TT: type, SSPTPTR: table });
      legacy.map(table, 4, 0x1000n, BigInt(PAGE) | 0x803n, 3n);
      expect([legacy.translationRequest(0x1000n, READ | WRITE), legacy.takeReason()]).toEqual([status, reason]);
      const allowed = type === 1;
      expect(legacy.ats).toMatchObject({ read: allowed, write: allowed, nonSnooped: allowed });
      expect([legacy.translationRequest(0x1000n, READ, 5), legacy.takeReason()]).toEqual([UR, 0x31]);
    }
  });

  it("stand in the trace with what they got", () => {
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | 7n, 7n);
    const completed = bench
      .traced(() => bench.translationRequest(0x1000n, READ, PASID))
      .find(({ name }) => name === "ats:completed");
    expect(completed).toMatchObject({ pasid: PASID, address: 0x1000n, size: 4096 });
  });

  it("do not exist on a unit without device-TLBs", () => {
    const plain = new Bench(qemu11Q35);
    plain.legacy({ TT: 0 });
    expect(plain.translationRequest(0x1000n, READ)).toBe(UR);
  });

  it("with execution are unknown from version 8 on (RTA.5)", () => {
    setUp({}, {}, { ...sapphireRapidsLike, version: [8, 0] });
    expect([bench.translationRequest(0x1000n, READ | EXEC, PASID), bench.takeReason()]).toEqual([UR, 0x34]);
  });
});

describe("translated requests (4.2.5)", () => {
  it("bypass translation where the context entry allows them", () => {
    const bench = new Bench(everything);
    bench.scalable({});
    expect(bench.translate(0x1_2345_6789n, WRITE | TRANSLATED)).toBe(TranslationStatus.OK);
    expect(bench.pa).toBe(0x1_2345_6789);
    expect(bench.translate(0x1000n, READ | TRANSLATED, 5)).toBe(TranslationStatus.UNSUPPORTED);
  });

  it.each([
    ["DTE clear", { DTE: 0, PRE: 0 }, 0x1000n, 0x44],
    ["an address above the host's width", {}, 1n << 52n, 0x83],
    ["the interrupt range", {}, 0xfee0_0000n, 0x87],
    ["a context entry that is not present", { P: 0 }, 0x1000n, 0x41],
  ])("are unsupported for %s", (_, context, address, reason) => {
    const bench = new Bench(everything);
    bench.scalable({}, context);
    expect([bench.translate(address, READ | TRANSLATED), bench.takeReason()]).toEqual([
      TranslationStatus.UNSUPPORTED,
      reason,
    ]);
  });

  it.each([
    [0, 0x1000n, 0x0d],
    [1, 1n << 52n, 0x04],
    [1, 0xfee0_0000n, 0x0e],
  ])("in legacy mode with TT %i", (type, address, reason) => {
    const bench = new Bench(everything);
    bench.legacy({ TT: type });
    expect([bench.translate(address, READ | TRANSLATED, NO_PASID), bench.takeReason()]).toEqual([
      TranslationStatus.UNSUPPORTED,
      reason,
    ]);
  });
});
