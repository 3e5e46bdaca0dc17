import { Access, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { DATA, type Fields, type Machine, machine } from "./machine.js";

const VA = 0x1000n;
const { READ, WRITE, EXEC, PRIV } = Access;

/** "rwx" of unprivileged and of privileged accesses to the page. */
function rights(m: Machine): string {
  const allowed = (access: number) => m.translate(VA, access) === TranslationStatus.OK;
  const of = (priv: number) =>
    `${allowed(READ | priv) ? "r" : "-"}${allowed(WRITE | priv) ? "w" : "-"}${allowed(EXEC | priv) ? "x" : "-"}`;
  return `${of(0)} ${of(PRIV)}`;
}

function page(leaf: Fields, cd: Fields = {}): Machine {
  const m = machine();
  m.stage1(0, {}, cd);
  m.map(VA, DATA, leaf);
  return m;
}

/** Sets attributes of the level 0 table descriptor above the page. */
function above(m: Machine, bits: bigint): Machine {
  const root = Number(m.memory.load64(0x4040_0000) & 0xffff_ffffn);
  m.memory.store64(0x4040_0000, Number(bits >> 32n) | 0, root | 0);
  return m;
}

describe("AP, UXN, PXN (Arm ARM D8.4, G18)", () => {
  it.each([
    [{ AP: "el1ReadWrite" }, "--x rwx"],
    [{ AP: "readWrite" }, "rwx rw-"],
    [{ AP: "el1ReadOnly" }, "--x r-x"],
    [{ AP: "readOnly" }, "r-x r-x"],
    [{ AP: "readOnly", UXN: true }, "r-- r-x"],
    [{ AP: "readOnly", PXN: true }, "r-x r--"],
    [{ AP: "readWrite", UXN: true, PXN: true }, "rw- rw-"],
  ])("%o gives %s", (leaf, expected) => {
    expect(rights(page(leaf))).toBe(expected);
  });

  it("needs both rights for an access that reads and writes", () => {
    const m = page({ AP: "readOnly" });
    expect(m.translate(VA, READ | WRITE)).toBe(TranslationStatus.FAULT);
    expect(m.events()).toMatchObject([{ ID: "F_PERMISSION", RnW: false }]);
  });
});

describe("WXN and UWXN (5.4)", () => {
  it("never executes what is writable with WXN", () => {
    expect(rights(page({ AP: "readWrite" }, { WXN: true }))).toBe("rw- rw-");
    expect(rights(page({ AP: "el1ReadWrite" }, { WXN: true }))).toBe("--x rw-");
    expect(rights(page({ AP: "readOnly" }, { WXN: true }))).toBe("r-x r-x");
  });

  it("takes a page that a write would make writable for writable (3.13.8, Arm ARM D8.4.2)", () => {
    const execution = (leaf: Fields, cd: Fields) => {
      const m = page({ DBM: true, ...leaf }, { HA: true, HD: true, ...cd });
      return [0, PRIV].map((priv) => m.translate(VA, EXEC | priv) === TranslationStatus.OK);
    };
    expect(execution({ AP: "readOnly" }, {})).toEqual([true, false]);
    expect(execution({ AP: "readOnly" }, { WXN: true })).toEqual([false, false]);
    expect(execution({ AP: "el1ReadOnly" }, { WXN: true })).toEqual([true, false]);
    expect(execution({ AP: "readOnly" }, { WXN: true, HD: false })).toEqual([true, true]);
    expect(execution({ AP: "readOnly", DBM: false }, { WXN: true })).toEqual([true, true]);
  });

  it("ignores UWXN in VMSAv8-64: what EL0 writes is never executed at EL1 anyway", () => {
    expect(rights(page({ AP: "readWrite" }, { UWXN: true }))).toBe("rwx rw-");
  });
});

describe("PAN (5.4)", () => {
  it("keeps privileged data accesses from what EL0 may access, also from the TLB", () => {
    const m = page({ AP: "readWrite" }, { PAN: true });
    expect(rights(m)).toBe("rwx ---");
    expect(rights(m)).toBe("rwx ---");
    expect(rights(page({ AP: "el1ReadWrite" }, { PAN: true }))).toBe("--x rwx");
    expect(rights(page({ AP: "readOnly" }, { PAN: true }))).toBe("r-x --x");
  });
});

describe("hierarchical attributes (D8.4.6)", () => {
  const APTABLE_NO_EL0 = 1n << 61n;
  const APTABLE_RO = 1n << 62n;
  const PXNTABLE = 1n << 59n;
  const UXNTABLE = 1n << 60n;

  it.each([
    [APTABLE_RO, "r-x r-x"],
    [APTABLE_NO_EL0, "--x rwx"],
    [UXNTABLE, "rw- rw-"],
    [PXNTABLE, "rwx rw-"],
    [APTABLE_RO | APTABLE_NO_EL0 | PXNTABLE | UXNTABLE, "--- r--"],
  ])("0x%s takes rights away from everything below", (bits, expected) => {
    expect(rights(above(page({ AP: "readWrite" }), bits))).toBe(expected);
  });

  it("is ignored with HAD", () => {
    expect(rights(above(page({ AP: "readWrite" }, { HAD0: true }), APTABLE_RO | UXNTABLE))).toBe("rwx rw-");
  });
});

describe("what the translation reports", () => {
  it("is the rights of the transaction's privilege", () => {
    const m = page({ AP: "el1ReadOnly" });
    m.translate(VA, READ | PRIV);
    expect(m.out.perms).toBe(READ | EXEC);
    const other = page({ AP: "readWrite", UXN: true });
    other.translate(VA, READ);
    expect(other.out.perms).toBe(READ | WRITE);
  });

  it("records the attributes after the stream's overrides: PnU and InD (7.3)", () => {
    const m = page({ AP: "el1ReadOnly", PXN: true, UXN: true });
    m.translate(VA, EXEC | PRIV);
    m.translate(VA, WRITE | EXEC | PRIV);
    expect(m.events()).toMatchObject([
      { ID: "F_PERMISSION", PnU: true, InD: true, RnW: true },
      { ID: "F_PERMISSION", PnU: true, InD: false, RnW: false },
    ]);
  });
});
