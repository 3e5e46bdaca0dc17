import { TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import * as s from "../../src/index.js";
import { CD_TABLE, DATA, type Fields, HOLE, Machine, machine, RAM, variant } from "./machine.js";

const { OK, FAULT } = TranslationStatus;
const VA = 0x1000n;
const MESSAGE = RAM + 0x8000;

const read = (m: Machine, register: { offset: number }) => m.chip.read32(register.offset);
const active = (m: Machine) => s.GERROR.decode(Int32Array.of(read(m, s.GERROR) ^ read(m, s.GERRORN)));
const reason = (m: Machine) => s.CMDQ_CONS.ERR.get(Int32Array.of(read(m, s.CMDQ_CONS)));
const opcode = (value: number, ...words: number[]) => Int32Array.of(value, words[0] ?? 0, words[1] ?? 0, words[2] ?? 0);

describe("command queue (3.5.1, 4.1, G8)", () => {
  it("follows the producer round the queue, wrap bit included", () => {
    const m = machine();
    for (let i = 0; i < 21; i++) m.submit(s.CMD_SYNC.encode({ Opcode: "SYNC" }));
    expect(read(m, s.CMDQ_CONS)).toBe(21);
    for (let i = 0; i < 12; i++) m.submit(s.CMD_SYNC.encode({ Opcode: "SYNC" }));
    expect(read(m, s.CMDQ_CONS)).toBe(1);
  });

  it("stands still while CMDQEN is 0 and starts when it rises (6.3.9)", () => {
    const m = new Machine().start({ CMDQEN: false });
    m.submit(s.CMD_SYNC.encode({ Opcode: "SYNC" }));
    expect(read(m, s.CMDQ_CONS)).toBe(0);
    m.set(s.CR0, { SMMUEN: true, CMDQEN: true });
    expect(read(m, s.CMDQ_CONS)).toBe(1);
  });

  it("accepts every command of its features (G24)", () => {
    const m = machine();
    m.endpoint(0);
    const unsupported = [s.OPCODE.CFGI_VMS_PIDM, s.OPCODE.TLBI_EL3_ALL, s.OPCODE.TLBI_EL3_VA] as readonly number[];
    const known = Object.values(s.OPCODE).filter((value) => !unsupported.includes(value));
    for (const value of known) m.submit(opcode(value));
    expect([read(m, s.CMDQ_CONS), read(m, s.GERROR)]).toEqual([known.length % 32, 0]);
  });

  it("tells in the trace what it consumed", () => {
    const m = machine();
    const records = m.traced(() => m.command([s.CMD_CFGI_STE, { Opcode: "CFGI_STE", StreamID: 3 }]));
    expect(records.filter(({ name }) => name === "command:consumed")).toMatchObject([
      { command: "CMD_CFGI_STE", words: [3, 3, 0, 0] },
      { command: "CMD_SYNC" },
    ]);
    expect(records.filter(({ name }) => name === "cache:invalidated")).toMatchObject([
      { cache: "config", scope: "CMD_CFGI_STE" },
    ]);
  });
});

describe("CERROR_ILL (7.1, G29)", () => {
  const noStage1 = variant("qemu-11-virt", { idr0: { S1P: false } });
  const noStage2 = variant("qemu-11-virt", { idr0: { S2P: false } });
  const ssec = 1 << 10;
  const cases: [string, Int32Array, s.Smmuv3PresetName | s.Smmuv3Preset][] = [
    ...[0x00, 0x07, 0x08, 0x14, 0x18, 0x1a, 0x24, 0x2c, 0x31, 0x42, 0x47, 0x60, 0xff].map(
      (value): [string, Int32Array, "everything"] => [`opcode 0x${value.toString(16)}`, opcode(value), "everything"],
    ),
    ...[0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x40, 0x41, 0x44, 0x45].map((value): [string, Int32Array, "everything"] => [
      `SSec in command 0x${value.toString(16)} (4.1.6)`,
      opcode(value | ssec),
      "everything",
    ]),
    ...[0x20, 0x21, 0x22, 0x23].map((value): [string, Int32Array, "qemu-11-virt"] => [
      `EL2 command 0x${value.toString(16)} without IDR0.HYP`,
      opcode(value),
      "qemu-11-virt",
    ]),
    ["CMD_ATC_INV without IDR0.ATS", opcode(0x40), "qemu-11-virt"],
    ["CMD_PRI_RESP without IDR0.PRI", opcode(0x41), "qemu-11-virt"],
    ["CMD_RESUME where nothing stalls", opcode(0x44), "qemu-11-virt"],
    ["CMD_STALL_TERM where nothing stalls", opcode(0x45), "qemu-11-virt"],
    ...[0x05, 0x06, 0x10, 0x11, 0x12, 0x13].map((value): [string, Int32Array, s.Smmuv3Preset] => [
      `stage 1 command 0x${value.toString(16)} without stage 1`,
      opcode(value),
      noStage1,
    ]),
    ["CMD_TLBI_S12_VMALL without stage 2", opcode(0x28), noStage2],
    ["CMD_TLBI_S2_IPA without stage 2", opcode(0x2a), noStage2],
    ["CMD_ATC_INV of more than 2^52 pages (4.5.1)", opcode(0x40, 0, 53), "everything"],
    ["CMD_PRI_RESP with Resp = 3 (4.5.2)", opcode(0x41, 0, 0, 0).map((w, i) => (i === 2 ? 3 << 12 : w)), "everything"],
    ["CMD_SYNC with CS = 3 (4.7.3)", opcode(0x46 | (3 << 12)), "everything"],
    ["a range of one granule without a level (4.4.1.1)", opcode(0x12, 0, 1 << 10), "everything"],
  ];

  it.each(cases)("is raised by %s", (_, words, preset) => {
    const m = machine(preset);
    m.submit(s.CMD_SYNC.encode({ Opcode: "SYNC" }));
    m.submit(words);
    m.submit(s.CMD_SYNC.encode({ Opcode: "SYNC" }));
    expect([s.CMDQ_CONS.RD.get(Int32Array.of(read(m, s.CMDQ_CONS))), reason(m)]).toEqual([1, 1]);
    expect(active(m)).toMatchObject({ CMDQ_ERR: true });
    expect(m.wires).toEqual(["gerror"]);
  });

  it("halts until GERRORN acknowledges, then repeats the command where the index stands", () => {
    const m = machine();
    m.submit(opcode(0xff));
    m.submit(s.CMD_SYNC.encode({ Opcode: "SYNC" }));
    expect(read(m, s.CMDQ_CONS) & 0xfffff).toBe(0);
    m.chip.write32(s.GERRORN.offset, read(m, s.GERROR));
    expect([reason(m), active(m).CMDQ_ERR]).toEqual([1, true]);
    // Linux puts a CMD_SYNC in its place.
    m.memory.store32(RAM + 0x30_0000, s.OPCODE.SYNC);
    m.chip.write32(s.GERRORN.offset, read(m, s.GERROR));
    expect([read(m, s.CMDQ_CONS) & 0xfffff, active(m).CMDQ_ERR]).toEqual([2, false]);
  });

  it("shows in the trace which command and why", () => {
    const m = machine();
    const records = m.traced(() => m.submit(opcode(0x60)));
    expect(records.filter(({ name }) => name === "command:refused")).toMatchObject([
      { command: "0x60", words: [0x60, 0, 0, 0], reason: "CERROR_ILL" },
    ]);
  });
});

describe("CERROR_ABT (7.1)", () => {
  it("is raised by a fetch that nobody answers, and the fetch is repeated after the acknowledgement", () => {
    const m = new Machine().start({ CMDQEN: false });
    m.set(s.CMDQ_BASE, { ADDR: HOLE, LOG2SIZE: 4 });
    m.set(s.CR0, { SMMUEN: true, CMDQEN: true });
    m.chip.write32(s.CMDQ_PROD.offset, 1);
    expect([read(m, s.CMDQ_CONS) & 0xfffff, reason(m), active(m).CMDQ_ERR]).toEqual([0, 2, true]);
    m.chip.write32(s.GERRORN.offset, read(m, s.GERROR));
    expect([reason(m), active(m).CMDQ_ERR]).toEqual([2, true]);
  });
});

describe("CMD_SYNC (4.7.3, G28)", () => {
  const sync = (values: Fields) => s.CMD_SYNC.encode({ Opcode: "SYNC", ...values });

  it("signals nothing with CS = 0", () => {
    const m = machine();
    m.submit(sync({ CS: "none", MSIAddress: MESSAGE, MSIData: 5 }));
    expect([m.wires, m.memory.load32(MESSAGE)]).toEqual([[], 0]);
  });

  it("writes its message to memory with CS = 1, after it has been consumed", () => {
    const m = machine();
    m.memory.store32(MESSAGE, -1);
    m.submit(sync({ CS: "irq", MSIAddress: MESSAGE, MSIData: 0 }));
    expect([m.memory.load32(MESSAGE), m.wires]).toEqual([0, ["cmd-sync"]]);
    m.submit(sync({ CS: "irq", MSIAddress: 0x800_0040, MSIData: 0x1234 }));
    expect(m.messages).toEqual([{ address: 0x800_0040, data: 0x1234 }]);
  });

  it("sends no message to address 0, nor without IDR0.MSI: the wire remains", () => {
    const m = machine();
    m.submit(sync({ CS: "irq", MSIData: 7 }));
    const wired = machine("qemu-11-virt");
    wired.submit(sync({ CS: "irq", MSIAddress: MESSAGE, MSIData: 7 }));
    expect([m.wires, m.messages, wired.wires, wired.memory.load32(MESSAGE)]).toEqual([
      ["cmd-sync"],
      [],
      ["cmd-sync"],
      0,
    ]);
  });

  it("raises MSI_CMDQ_ABT_ERR when the message aborts, and goes on (7.5)", () => {
    const m = machine();
    m.submit(sync({ CS: "irq", MSIAddress: 0xff00_0000, MSIData: 7 }));
    m.submit(sync({}));
    expect(active(m)).toMatchObject({ MSI_CMDQ_ABT_ERR: true, CMDQ_ERR: false });
    expect(read(m, s.CMDQ_CONS)).toBe(2);
  });

  it("sends an event with CS = 2 where IDR0.SEV is 1 (3.18)", () => {
    const m = machine();
    m.submit(sync({ CS: "sev" }));
    const without = machine("qemu-11-virt");
    without.submit(sync({ CS: "sev" }));
    expect([m.wires, without.wires]).toEqual([["sev"], []]);
  });

  it("sends an event when a full queue has room again (3.5.1, IDR0.SEV)", () => {
    const m = new Machine().start({ CMDQEN: false });
    for (let i = 0; i < 16; i++) m.submit(sync({}));
    m.set(s.CR0, { SMMUEN: true, CMDQEN: true });
    expect(m.wires).toEqual(["sev"]);
  });
});

describe("CMD_CFGI (4.3, G23)", () => {
  /** Streams 0 to 3 translate; then every CD in memory becomes invalid, and every STE aborts. */
  function stale(): Machine {
    const m = machine();
    m.map(VA, DATA);
    for (const sid of [0, 1, 2, 3]) {
      m.stage1(sid);
      expect(m.translate(VA, undefined, sid)).toBe(OK);
    }
    for (const sid of [0, 1, 2, 3]) m.ste(sid, { Config: "abort" });
    m.put(s.CD, CD_TABLE, {});
    for (const sid of [0, 1, 2, 3]) expect(m.translate(VA, undefined, sid)).toBe(OK);
    return m;
  }
  const working = (m: Machine) => [0, 1, 2, 3].map((sid) => m.translate(VA, undefined, sid) === OK);

  it.each<[string, [{ encode(values: object): Int32Array }, Fields], boolean[]]>([
    ["CFGI_STE: one stream", [s.CMD_CFGI_STE, { Opcode: "CFGI_STE", StreamID: 1 }], [true, false, true, true]],
    [
      "CFGI_STE_RANGE: 2^(Range + 1) streams, aligned",
      [s.CMD_CFGI_STE_RANGE, { Opcode: "CFGI_STE_RANGE", StreamID: 3, Range: 0 }],
      [true, true, false, false],
    ],
    [
      "CFGI_ALL: everything",
      [s.CMD_CFGI_STE_RANGE, { Opcode: "CFGI_STE_RANGE", StreamID: 200, Range: 31 }],
      [false, false, false, false],
    ],
    ["CFGI_CD: the CD of one stream", [s.CMD_CFGI_CD, { Opcode: "CFGI_CD", StreamID: 2 }], [true, true, false, true]],
    [
      "CFGI_CD of another SubstreamID: nothing",
      [s.CMD_CFGI_CD, { Opcode: "CFGI_CD", StreamID: 2, SubstreamID: 1 }],
      [true, true, true, true],
    ],
    [
      "CFGI_CD_ALL: every CD of one stream",
      [s.CMD_CFGI_CD_ALL, { Opcode: "CFGI_CD_ALL", StreamID: 0 }],
      [false, true, true, true],
    ],
  ])("reaches with %s", (_, command, expected) => {
    const m = stale();
    m.command(command);
    expect(working(m)).toEqual(expected);
  });

  it("keeps the STE with CFGI_CD, and drops CDs with CFGI_STE (5.2.1)", () => {
    const kept = stale();
    kept.command([s.CMD_CFGI_CD_ALL, { Opcode: "CFGI_CD_ALL", StreamID: 0 }]);
    expect([kept.translate(VA), kept.events()]).toMatchObject([FAULT, [{ ID: "C_BAD_CD" }]]);
    const dropped = stale();
    dropped.ste(0, { Config: "s1", S1ContextPtr: CD_TABLE });
    dropped.command([s.CMD_CFGI_STE, { Opcode: "CFGI_STE", StreamID: 0 }]);
    expect([dropped.translate(VA), dropped.events()]).toMatchObject([FAULT, [{ ID: "C_BAD_CD" }]]);
  });

  it("caches invalid entries as well, until they are invalidated (5.2.1)", () => {
    const m = machine();
    m.map(VA, DATA);
    expect(m.translate(VA)).toBe(FAULT);
    m.stage1();
    expect(m.translate(VA)).toBe(FAULT);
    m.command([s.CMD_CFGI_STE, { Opcode: "CFGI_STE", StreamID: 0 }]);
    expect(m.translate(VA)).toBe(OK);
  });

  it("keeps level 1 stream table descriptors with Leaf = 1 (4.3.1)", () => {
    const m = new Machine();
    const [first, second] = [RAM + 0x80_0000, RAM + 0x81_0000];
    const level1 = RAM + 0x82_0000;
    m.put(s.L1STD, level1, { Span: 7, L2Ptr: first });
    m.set(s.STRTAB_BASE, { ADDR: level1 });
    m.set(s.STRTAB_BASE_CFG, { LOG2SIZE: 8, FMT: "twoLevel", SPLIT: "span4K" });
    m.set(s.CMDQ_BASE, { ADDR: RAM, LOG2SIZE: 4 });
    m.set(s.CR0, { SMMUEN: true, CMDQEN: true });
    m.put(s.STE, first, { V: true, Config: "bypass" });
    m.put(s.STE, second, { V: true, Config: "abort" });
    const send = (Leaf: boolean, at: number) => {
      const words = s.CMD_CFGI_STE.encode({ Opcode: "CFGI_STE", StreamID: 0, Leaf });
      for (const [i, word] of words.entries()) m.memory.store32(RAM + at * 16 + i * 4, word);
      m.chip.write32(s.CMDQ_PROD.offset, at + 1);
    };
    expect(m.translate(0x5000n)).toBe(OK);
    m.put(s.L1STD, level1, { Span: 7, L2Ptr: second });
    send(true, 0);
    expect(m.translate(0x5000n)).toBe(OK);
    send(false, 1);
    expect(m.translate(0x5000n)).toBe(FAULT);
  });

  it("does nothing visible for prefetches (4.2)", () => {
    const m = stale();
    m.command(
      [s.CMD_PREFETCH_CONFIG, { Opcode: "PREFETCH_CONFIG", StreamID: 0 }],
      [s.CMD_PREFETCH_ADDR, { Opcode: "PREFETCH_ADDR", StreamID: 0 }],
    );
    expect(working(m)).toEqual([true, true, true, true]);
  });
});
