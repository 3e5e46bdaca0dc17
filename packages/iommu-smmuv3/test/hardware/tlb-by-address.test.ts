import { Access, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import * as s from "../../src/index.js";
import { DATA, type Fields, Machine, machine } from "./machine.js";

const { OK } = TranslationStatus;
const BASE = 0x4000_0000n;
const PAGES = 8;

type Command = [table: { encode(values: object): Int32Array }, values: Fields];

/** Eight pages that are in the TLB and gone from memory. @returns which of them a command drops */
function dropped(stream: (m: Machine) => void, stage2: boolean, command: Command): number[] {
  const m = new Machine().start({}, { E2H: true });
  stream(m);
  const pages = Array.from({ length: PAGES }, (_, i) => BASE + BigInt(i) * 4096n);
  const leaves = pages.map((page, i) => (stage2 ? m.map2(page, DATA + i * 4096) : m.map(page, DATA + i * 4096)));
  for (const page of pages) expect(m.translate(page)).toBe(OK);
  for (const leaf of leaves) m.memory.store64(leaf, 0, 0);
  m.command(command);
  return pages.flatMap((page, i) => (m.translate(page, Access.READ) === OK ? [] : [i]));
}

/** (NUM + 1) * 2^SCALE = 4 granules, of entries of level 3 only. */
const range = { Leaf: true, TG: "granule4K", NUM: 1, SCALE: 1, TTL: "level3", Address: BASE } as const;
const guest = (m: Machine) => m.stage1(0, { S2VMID: 6 });
const host = (m: Machine) => m.stage1(0, { STRW: "nsEl2" });
const second = (m: Machine) => m.stage2();

describe("TLBI by address (4.4.1.1)", () => {
  it.each([
    ["NH_VA", guest, false, [s.CMD_TLBI_NH_VA, { Opcode: "TLBI_NH_VA", VMID: 6, ASID: 1, ...range }]],
    ["NH_VAA", guest, false, [s.CMD_TLBI_NH_VAA, { Opcode: "TLBI_NH_VAA", VMID: 6, ...range }]],
    ["EL2_VA", host, false, [s.CMD_TLBI_EL2_VA, { Opcode: "TLBI_EL2_VA", ASID: 1, ...range }]],
    ["EL2_VAA", host, false, [s.CMD_TLBI_EL2_VAA, { Opcode: "TLBI_EL2_VAA", ...range }]],
    ["S2_IPA", second, true, [s.CMD_TLBI_S2_IPA, { Opcode: "TLBI_S2_IPA", VMID: 7, ...range }]],
  ] as const)(
    "%s drops the granules of its range, at the level that it names",
    (_, stream, stage2, [table, values]) => {
      expect(dropped(stream, stage2, [table, values])).toEqual([0, 1, 2, 3]);
      expect(dropped(stream, stage2, [table, { ...values, TTL: "level2" }])).toEqual([]);
      expect(dropped(stream, stage2, [table, { ...values, Address: BASE + 0x2000n, TTL: "any" }])).toEqual([
        2, 3, 4, 5,
      ]);
      const other: Fields =
        "ASID" in values ? { ASID: 2 } : "VMID" in values ? { VMID: 8 } : { Address: BASE + 0x8000n };
      expect(dropped(stream, stage2, [table, { ...values, ...other }])).toEqual([]);
    },
  );
});

describe("TLBI with a level that the granule has no leaves at (4.4.1.1)", () => {
  const hint = { Opcode: "TLBI_NH_VA", ASID: 1, TG: "granule16K", TTL: "level1" } as const;

  it("takes out leaves of every level: 16 KiB tables have no level 1 blocks", () => {
    const m = machine();
    m.stage1(0, {}, { TG0: "granule16K", T0SZ: 17 });
    const leaf = m.map(BASE, DATA, {}, { granule: 14, bits: 47 });
    expect(m.translate(BASE)).toBe(OK);
    m.memory.store64(leaf, 0, 0);
    m.command([s.CMD_TLBI_NH_VA, { ...hint, NUM: 1, Address: BASE }]);
    expect(m.translate(BASE)).not.toBe(OK);
  });

  it("is no hint: one granule without any is CERROR_ILL", () => {
    const m = machine();
    m.submit(s.CMD_TLBI_NH_VA.encode({ ...hint, Address: BASE }));
    expect(s.CMDQ_CONS.decode(Int32Array.of(m.chip.read32(s.CMDQ_CONS.offset)))).toEqual({ RD: 0, ERR: "CERROR_ILL" });
  });
});

describe("SSec (4.1.6)", () => {
  it.each([
    ["CMD_PREFETCH_CONFIG", [s.CMD_PREFETCH_CONFIG, { Opcode: "PREFETCH_CONFIG", SSec: true }]],
    ["CMD_PREFETCH_ADDR", [s.CMD_PREFETCH_ADDR, { Opcode: "PREFETCH_ADDR", SSec: true }]],
    ["CMD_CFGI_STE", [s.CMD_CFGI_STE, { Opcode: "CFGI_STE", SSec: true }]],
    ["CMD_CFGI_STE_RANGE", [s.CMD_CFGI_STE_RANGE, { Opcode: "CFGI_STE_RANGE", SSec: true }]],
    ["CMD_CFGI_CD", [s.CMD_CFGI_CD, { Opcode: "CFGI_CD", SSec: true }]],
    ["CMD_CFGI_CD_ALL", [s.CMD_CFGI_CD_ALL, { Opcode: "CFGI_CD_ALL", SSec: true }]],
    ["CMD_ATC_INV", [s.CMD_ATC_INV, { Opcode: "ATC_INV", SSec: true }]],
    ["CMD_PRI_RESP", [s.CMD_PRI_RESP, { Opcode: "PRI_RESP", SSec: true }]],
    ["CMD_RESUME", [s.CMD_RESUME, { Opcode: "RESUME", SSec: true }]],
    ["CMD_STALL_TERM", [s.CMD_STALL_TERM, { Opcode: "STALL_TERM", SSec: true }]],
    ["any command", [s.COMMAND, { Opcode: "CFGI_STE", SSec: true }]],
  ] as const)("in %s is CERROR_ILL on the Non-secure queue", (_, [table, values]) => {
    const m = machine();
    m.submit(table.encode(values));
    expect(s.CMDQ_CONS.decode(Int32Array.of(m.chip.read32(s.CMDQ_CONS.offset)))).toEqual({ RD: 0, ERR: "CERROR_ILL" });
  });
});
