import { Access, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import * as s from "../../src/index.js";
import { CD_TABLE, DATA, type Fields, Machine, machine, RAM, S1_ROOT, variant } from "./machine.js";

const { OK } = TranslationStatus;
const GLOBAL = 0x8000n;
const OWN = 0x9000n;
type Command = [{ encode(values: object): Int32Array }, Fields];

/** What the TLB holds, one letter each; see `cached`. */
interface Probe {
  readonly sid: number;
  readonly va: bigint;
}

/**
 * Streams 0 (VMID 1, ASID 1), 1 (VMID 1, ASID 2), 2 (VMID 2, ASID 1), 3 (EL2), each with an own and a global page; 4 is stage 2 of
 * VMID 1. Every entry is in the TLB and gone from memory.
 */
const PROBES: Readonly<Record<string, Probe>> = {
  a: { sid: 0, va: OWN },
  A: { sid: 0, va: GLOBAL },
  b: { sid: 1, va: OWN },
  c: { sid: 2, va: OWN },
  C: { sid: 2, va: GLOBAL },
  e: { sid: 3, va: OWN },
  s: { sid: 4, va: OWN },
};

function cached(
  cr0: Fields = {},
  cr2: Fields = {},
  preset: s.Smmuv3Preset | s.Smmuv3PresetName = "everything",
): Machine {
  const m = new Machine(preset).start(cr0, cr2);
  const cd = (sid: number, ASID: number) => {
    const at = CD_TABLE + sid * 64;
    m.put(s.CD, at, { V: true, AA64: true, T0SZ: 16, TTB0: S1_ROOT, EPD1: true, IPS: 5, R: true, A: true, ASID });
    return at;
  };
  m.ste(0, { Config: "s1", S2VMID: 1, S1ContextPtr: cd(0, 1) });
  m.ste(1, { Config: "s1", S2VMID: 1, S1ContextPtr: cd(1, 2) });
  m.ste(2, { Config: "s1", S2VMID: 2, S1ContextPtr: cd(2, 1) });
  m.ste(3, { Config: "s1", STRW: "nsEl2", S1ContextPtr: cd(3, 1) });
  m.stage2(4, { S2VMID: 1 });
  const leaves = [m.map(OWN, DATA), m.map(GLOBAL, DATA, { nG: false }), m.map2(OWN, DATA)];
  for (const { sid, va } of Object.values(PROBES)) expect(m.translate(va, Access.READ, sid)).toBe(OK);
  for (const leaf of leaves) m.memory.store64(leaf, 0, 0);
  return m;
}

/** Letters of what is still there. */
function left(m: Machine): string {
  return Object.entries(PROBES)
    .filter(([, { sid, va }]) => m.translate(va, Access.READ, sid) === OK)
    .map(([letter]) => letter)
    .join("");
}

function va(opcode: string, values: Fields): Command {
  return [s.CMD_TLBI_NH_VA, { Opcode: opcode, ...values }];
}

describe("scope of the commands (4.4, 3.17, G22, G25)", () => {
  it.each<[string, Command, string]>([
    ["NH_ALL: stage 1 of a VMID", [s.CMD_TLBI_NH_ALL, { Opcode: "TLBI_NH_ALL", VMID: 1 }], "cCes"],
    [
      "NH_ASID: an ASID of a VMID, not what is global",
      [s.CMD_TLBI_NH_ASID, { Opcode: "TLBI_NH_ASID", VMID: 1, ASID: 1 }],
      "AbcCes",
    ],
    ["NH_VA: the page of an ASID", va("TLBI_NH_VA", { VMID: 1, ASID: 1, Address: OWN }), "AbcCes"],
    ["NH_VA: or the global page", va("TLBI_NH_VA", { VMID: 1, ASID: 9, Address: GLOBAL }), "abcCes"],
    ["NH_VAA: the page of every ASID", va("TLBI_NH_VAA", { VMID: 1, ASID: 9, Address: OWN }), "AcCes"],
    ["S12_VMALL: both stages of a VMID", [s.CMD_TLBI_S12_VMALL, { Opcode: "TLBI_S12_VMALL", VMID: 1 }], "cCe"],
    ["S2_IPA: stage 2 of an address", va("TLBI_S2_IPA", { VMID: 1, Address: OWN }), "aAbcCe"],
    ["S2_IPA: of another VMID", va("TLBI_S2_IPA", { VMID: 2, Address: OWN }), "aAbcCes"],
    ["NSNH_ALL: everything but EL2", [s.CMD_TLBI_NSNH_ALL, { Opcode: "TLBI_NSNH_ALL" }], "e"],
    ["EL2_ALL: EL2 and nothing else", [s.CMD_TLBI_EL2_ALL, { Opcode: "TLBI_EL2_ALL" }], "aAbcCs"],
    ["EL2_VA: the page, without an ASID", va("TLBI_EL2_VA", { ASID: 77, Address: OWN }), "aAbcCs"],
    ["EL2_VAA: the page", va("TLBI_EL2_VAA", { Address: OWN }), "aAbcCs"],
    ["EL2_VA: another page", va("TLBI_EL2_VA", { Address: 0x5000 }), "aAbcCes"],
    [
      "EL2_ASID: nothing where EL2 has no ASIDs",
      [s.CMD_TLBI_EL2_ASID, { Opcode: "TLBI_EL2_ASID", ASID: 0 }],
      "aAbcCes",
    ],
  ])("%s", (_, command, expected) => {
    const m = cached();
    m.command(command);
    expect(left(m)).toBe(expected);
  });

  it.each<[string, Command, string]>([
    ["EL2_ASID: one ASID", [s.CMD_TLBI_EL2_ASID, { Opcode: "TLBI_EL2_ASID", ASID: 1 }], "aAbcCs"],
    ["EL2_ASID: another one", [s.CMD_TLBI_EL2_ASID, { Opcode: "TLBI_EL2_ASID", ASID: 2 }], "aAbcCes"],
    ["EL2_VA: needs the ASID", va("TLBI_EL2_VA", { ASID: 2, Address: OWN }), "aAbcCes"],
    ["EL2_VA: with the ASID", va("TLBI_EL2_VA", { ASID: 1, Address: OWN }), "aAbcCs"],
    ["EL2_ALL", [s.CMD_TLBI_EL2_ALL, { Opcode: "TLBI_EL2_ALL" }], "aAbcCs"],
  ])("with CR2.E2H: %s (3.17, 6.3.12)", (_, command, expected) => {
    const m = cached({}, { E2H: true });
    m.command(command);
    expect(left(m)).toBe(expected);
  });

  it("lets VMIDs that differ in bits below CR0.VMW count as one (3.17.6, IDR0.VMW)", () => {
    const m = cached({ VMW: "ignore2" });
    m.command([s.CMD_TLBI_NH_ALL, { Opcode: "TLBI_NH_ALL", VMID: 3 }]);
    expect(left(m)).toBe("es");
    const exact = cached();
    exact.command([s.CMD_TLBI_NH_ALL, { Opcode: "TLBI_NH_ALL", VMID: 3 }]);
    expect(left(exact)).toBe("aAbcCes");
  });

  it("ignores the VMID where there is no stage 2 (4.4.2.1)", () => {
    const preset = variant("everything", { idr0: { S2P: false } });
    const m = machine(preset);
    m.stage1();
    const at = m.map(OWN, DATA);
    expect(m.translate(OWN)).toBe(OK);
    m.memory.store64(at, 0, 0);
    m.command([s.CMD_TLBI_NH_ALL, { Opcode: "TLBI_NH_ALL", VMID: 55 }]);
    expect(m.translate(OWN)).not.toBe(OK);
  });

  it("drops a nested entry by VA or VMID, not by IPA (4.4.3.1)", () => {
    const nested = () => {
      const m = machine();
      m.stage1(0, { Config: "nested", ...Machine.STAGE2 });
      for (const page of [CD_TABLE, S1_ROOT, RAM + 0x60_0000]) m.map2(BigInt(page), page, {}, { level: 2 });
      const leaf = m.map2(0x5000n, DATA);
      m.map(OWN, 0x5000);
      expect(m.translate(OWN)).toBe(OK);
      m.memory.store64(leaf, 0, 0);
      return m;
    };
    const byIpa = nested();
    byIpa.command(va("TLBI_S2_IPA", { VMID: 7, Address: 0x5000 }));
    expect(byIpa.translate(OWN)).toBe(OK);
    byIpa.command([s.CMD_TLBI_NH_ALL, { Opcode: "TLBI_NH_ALL", VMID: 7 }]);
    expect(byIpa.translate(OWN)).not.toBe(OK);
    const byVmid = nested();
    byVmid.command([s.CMD_TLBI_S12_VMALL, { Opcode: "TLBI_S12_VMALL", VMID: 7 }]);
    expect(byVmid.translate(OWN)).not.toBe(OK);
  });
});

describe("ranges and levels (4.4.1.1, G25)", () => {
  const PAGES = 16;
  const base = 0x4000_0000n;

  /** Sixteen stale pages from `base` on; answers how many are left after the command, and which is the first. */
  function after(values: Fields, preset: s.Smmuv3Preset | s.Smmuv3PresetName = "everything"): number[] {
    const m = machine(preset);
    m.stage1();
    const leaves = Array.from({ length: PAGES }, (_, i) => m.map(base + BigInt(i) * 4096n, DATA + i * 4096));
    const pages = leaves.map((_, i) => base + BigInt(i) * 4096n);
    for (const page of pages) expect(m.translate(page)).toBe(OK);
    for (const leaf of leaves) m.memory.store64(leaf, 0, 0);
    m.command(va("TLBI_NH_VA", { ASID: 1, Address: base, ...values }));
    return pages.flatMap((page, i) => (m.translate(page) === OK ? [] : [i]));
  }

  const first = (count: number) => Array.from({ length: count }, (_, i) => i);

  it.each<[string, Fields, number[]]>([
    ["one address without TG", { NUM: 3, SCALE: 1 }, first(1)],
    ["(NUM + 1) * 2^SCALE granules", { TG: "granule4K", NUM: 2, SCALE: 0 }, first(3)],
    ["SCALE multiplies", { TG: "granule4K", NUM: 2, SCALE: 2 }, first(12)],
    ["a single granule with a level", { TG: "granule4K", NUM: 0, SCALE: 0, TTL: "level3" }, first(1)],
    ["granules of 16 KiB leave entries of 4 KiB pages", { TG: "granule16K", NUM: 1, SCALE: 0 }, []],
    ["a level that the pages do not have leaves them", { TG: "granule4K", NUM: 31, SCALE: 0, TTL: "level2" }, []],
    ["the largest range covers everything above", { TG: "granule4K", NUM: 31, SCALE: 31 }, first(PAGES)],
  ])("%s", (_, values, gone) => {
    expect(after(values)).toEqual(gone);
  });

  it("is one address where IDR3.RIL is 0: TG, NUM, SCALE and TTL are ignored", () => {
    const plain = variant("everything", { idr3: { RIL: false } });
    expect(after({ TG: "granule16K", NUM: 7, SCALE: 3, TTL: "level1" }, plain)).toEqual([0]);
  });

  it("drops a block that the range only touches", () => {
    const m = machine();
    m.stage1();
    const leaf = m.map(0x4000_0000n, RAM, {}, { level: 2 });
    expect(m.translate(0x4000_0000n)).toBe(OK);
    m.memory.store64(leaf, 0, 0);
    m.command(va("TLBI_NH_VA", { ASID: 1, Address: 0x4012_3000n }));
    expect(m.translate(0x4000_0000n)).not.toBe(OK);
  });

  it("keeps cached table descriptors with Leaf = 1, and drops them without (4.4.1)", () => {
    const m = machine();
    m.stage1();
    m.map(base, DATA);
    expect(m.translate(base)).toBe(OK);
    // The root's entry is gone; the walk cache has what was below.
    m.memory.store64(S1_ROOT, 0, 0);
    m.command(va("TLBI_NH_VA", { ASID: 1, Address: base, Leaf: true }));
    expect(m.translate(base)).toBe(OK);
    m.command(va("TLBI_NH_VA", { ASID: 1, Address: base, Leaf: false }));
    expect(m.translate(base)).not.toBe(OK);
  });
});
