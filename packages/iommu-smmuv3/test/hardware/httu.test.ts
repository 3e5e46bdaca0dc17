import { Access, type SlabMemory, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { CD_TABLE, DATA, type Fields, Machine, machine, RAM, S1_ROOT } from "./machine.js";

const { OK, FAULT } = TranslationStatus;
const VA = 0x1000n;
const AF = 1n << 10n;
const AP_RO = 1n << 7n;
const S2AP_W = 1n << 7n;

function withHttu(cd: Fields, leaf: Fields): { m: Machine; at: number } {
  const m = machine();
  m.stage1(0, {}, cd);
  return { m, at: m.map(VA, DATA, leaf) };
}

describe("access flag (3.13.2, G21)", () => {
  it("is set in memory by the first translation, and the trace tells", () => {
    const { m, at } = withHttu({ HA: true }, { AF: false });
    const records = m.traced(() => expect(m.translate(VA)).toBe(OK));
    expect(m.memory.load64(at) & AF).toBe(AF);
    expect(records.filter(({ name }) => name === "table:updated")).toMatchObject([{ table: "S1 L3", address: at }]);
  });

  it("stays clear when the access is not permitted", () => {
    const { m, at } = withHttu({ HA: true }, { AF: false, AP: "readOnly" });
    expect(m.translate(VA, Access.WRITE)).toBe(FAULT);
    expect(m.memory.load64(at) & AF).toBe(0n);
  });
});

describe("dirty state (3.13.3)", () => {
  it("makes a clean page writable at the first write, not at a read", () => {
    const { m, at } = withHttu({ HA: true, HD: true }, { AP: "readOnly", DBM: true });
    expect(m.translate(VA)).toBe(OK);
    expect(m.memory.load64(at) & AP_RO).toBe(AP_RO);
    expect(m.out.perms & Access.WRITE).toBe(0);
    expect(m.translate(VA, Access.WRITE)).toBe(OK);
    expect(m.memory.load64(at) & AP_RO).toBe(0n);
    expect(m.out.perms & Access.WRITE).toBe(Access.WRITE);
  });

  it("does not touch a page without DBM, without HD, or below APTable[1]", () => {
    for (const [cd, leaf] of [
      [{ HA: true, HD: true }, { AP: "readOnly" }],
      [{ HA: true }, { AP: "readOnly", DBM: true }],
      [{ HD: true }, { AP: "readOnly", DBM: true }],
    ] as [Fields, Fields][]) {
      const { m, at } = withHttu(cd, leaf);
      expect(m.translate(VA, Access.WRITE)).toBe(FAULT);
      expect(m.memory.load64(at) & AP_RO).toBe(AP_RO);
    }
    const { m, at } = withHttu({ HA: true, HD: true }, { AP: "readOnly", DBM: true });
    const root = m.memory.load64(S1_ROOT) | (1n << 62n);
    m.memory.store64(S1_ROOT, Number(root >> 32n) | 0, Number(root & 0xffff_ffffn) | 0);
    expect(m.translate(VA, Access.WRITE)).toBe(FAULT);
    expect(m.memory.load64(at) & AP_RO).toBe(AP_RO);
  });

  it("leaves a page alone that EL0 may not write even when dirty", () => {
    const { m, at } = withHttu({ HA: true, HD: true }, { AP: "el1ReadOnly", DBM: true });
    expect(m.translate(VA, Access.WRITE)).toBe(FAULT);
    expect(m.memory.load64(at) & AP_RO).toBe(AP_RO);
    expect(m.translate(VA, Access.WRITE | Access.PRIV)).toBe(OK);
    expect(m.memory.load64(at) & AP_RO).toBe(0n);
  });
});

describe("stage 2 and nested (3.13.5)", () => {
  it("sets S2AP[1] of a clean stage 2 page", () => {
    const m = machine();
    m.stage2(0, { S2HA: true, S2HD: true });
    const at = m.map2(VA, DATA, { S2AP: "readOnly", DBM: true, AF: false });
    expect(m.translate(VA)).toBe(OK);
    expect(m.memory.load64(at) & (AF | S2AP_W)).toBe(AF);
    const records = m.traced(() => expect(m.translate(VA, Access.WRITE)).toBe(OK));
    expect(m.memory.load64(at) & S2AP_W).toBe(S2AP_W);
    expect(records.filter(({ name }) => name === "table:updated")).toMatchObject([{ table: "S2 L3", address: at }]);
  });

  it("writes a stage 1 flag only through a writable stage 2 page: otherwise F_PERMISSION, CLASS TT, TTRnW = 0 (7.3.16)", () => {
    const m = machine();
    m.ste(0, { Config: "nested", S1ContextPtr: CD_TABLE, ...Machine.STAGE2 });
    m.cd({ HA: true });
    for (const page of [CD_TABLE, S1_ROOT]) m.map2(BigInt(page), page);
    m.map2(BigInt(RAM + 0x60_0000), RAM + 0x60_0000, { S2AP: "readOnly" }, { level: 2 });
    const at = m.map(VA, 0x80_0000, { AF: false });
    m.map2(0x80_0000n, DATA);
    expect(m.translate(VA)).toBe(FAULT);
    expect(m.memory.load64(at) & AF).toBe(0n);
    expect(m.events()).toMatchObject([
      { ID: "F_PERMISSION", S2: true, Class: "TT", TTRnW: false, RnW: true, IPA: at - (at % 0x1000) },
    ]);
  });
});

/** Somebody clears the descriptor just before the chip writes its flags. */
function clearedAtUpdate(m: Machine, at: number): void {
  const original = m.memory.compareExchange64.bind(m.memory);
  let raced = false;
  m.memory.compareExchange64 = function (this: SlabMemory, pa, ...rest): boolean {
    if (!raced && pa === at) {
      raced = true;
      this.store64(at, 0, 0);
    }
    return original(pa, ...rest);
  };
}

describe("atomicity (G21)", () => {
  it("reads a stage 2 descriptor again when somebody changed it in between", () => {
    const m = machine();
    m.stage2(0, { S2HA: true });
    const at = m.map2(VA, DATA, { AF: false });
    clearedAtUpdate(m, at);
    expect(m.translate(VA)).toBe(FAULT);
    expect(m.memory.load64(at)).toBe(0n);
    expect(m.events()).toMatchObject([{ ID: "F_TRANSLATION", S2: true }]);
  });

  it("reads the descriptor again when somebody changed it in between", () => {
    const { m, at } = withHttu({ HA: true }, { AF: false });
    clearedAtUpdate(m, at);
    expect(m.translate(VA)).toBe(FAULT);
    expect(m.memory.load64(at)).toBe(0n);
    expect(m.events()).toMatchObject([{ ID: "F_TRANSLATION" }]);
  });
});
