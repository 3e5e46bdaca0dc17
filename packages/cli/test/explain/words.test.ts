/** Bare words: recognised when only one structure fits, otherwise all that fit are named. */
import { describe, expect, it } from "vitest";
import { Explainer } from "../../src/explain/explainer.js";
import type { ExplainRecord } from "../../src/explain/record.js";
import { TABLES, tableNamed } from "../../src/explain/tables.js";

function records(lines: string | string[], as?: string): ExplainRecord[] {
  const found: ExplainRecord[] = [];
  const explainer = new Explainer((record) => found.push(record), as === undefined ? undefined : tableNamed(as));
  for (const line of [lines].flat()) explainer.line(line);
  explainer.end();
  return found;
}

function fields(record: ExplainRecord): Record<string, string> {
  return Object.fromEntries(record.parts.flatMap((part) => part.fields).map(({ name, value }) => [name, value]));
}

describe("bare hex words", () => {
  it("of an event are an event (IHI0070 7.3.13)", () => {
    const [record] = records("0x0000002800000010 0x0000020800000000 0x0000000000300000 0x0000000000000000");
    expect(record.facts).toMatchObject({ name: "F_TRANSLATION", sid: 0x28, address: 0x300000n, access: "read" });
  });

  it("of a fault record are a fault (VT-d 11.4.7.6)", () => {
    const [record] = records("0x0000000000300000 0xc000000600000028");
    expect(record.facts).toMatchObject({
      iommu: "vtd",
      code: 6,
      device: "0000:00:05.0",
      address: 0x300000n,
      access: "read",
    });
  });

  it("that fit several structures are not guessed", () => {
    const [record] = records("0x0000000000000006 0x0000000000000000");
    expect(record.summary).toMatch(/could be .* or .*: say which with --as/);
    expect(record.parts).toEqual([]);
  });

  it("that fit none are not taken", () => {
    expect(records("0xdeadbeefdeadbeef 0xdeadbeefdeadbeef")).toEqual([]);
    expect(records("0xdeadbeefdeadbeef")).toEqual([]);
  });

  it("are what --as says, whole or in part", () => {
    expect(fields(records("0x0000000104800e0b 0x2800000000000054", "STE")[0])).toMatchObject({
      V: "0x1",
      Config: "0x5 (s1)",
    });
    expect(fields(records("19e2ff0505e", "ECAP")[0])).toMatchObject({ PASID: "0x1", SMTS: "0x0" });
    expect(fields(records("8000 0000 0001 0000 0002 0000 0003 0000".replaceAll(" ", " 0x"), "CD")[0])).toBeDefined();
  });

  it("can be 32-bit words, lowest first", () => {
    expect(
      fields(
        records(
          "0x00000010 0x00000028 0x00000000 0x00000208 0x00300000 0x00000000 0x00000000 0x00000000",
          "F_TRANSLATION",
        )[0],
      ),
    ).toMatchObject({ StreamID: "0x28", InputAddr: "0x300000" });
  });

  it("with a label need no --as", () => {
    expect(fields(records("IDR0 = 0x00081f5f")[0])).toMatchObject({ S1P: "0x1", ATS: "0x1" });
    expect(records("nonsense = 0x00081f5f")).toEqual([]);
  });

  it("have a table for every name that is listed", () => {
    expect(TABLES.length).toBeGreaterThan(150);
    for (const { family, name, table } of TABLES) expect(tableNamed(`${family}.${name}`)?.table).toBe(table);
  });
});

describe("VFIO ioctls", () => {
  it("are known by number and by name, with the bytes of their argument", () => {
    const [record] = records("VFIO_IOMMU_MAP_DMA 2000000003000000001000000000000000002000000000000010000000000000");
    expect(fields(record)).toEqual({ argsz: "0x20", flags: "0x3", vaddr: "0x1000", iova: "0x200000", size: "0x1000" });
    expect(records("ioctl(7, 0x3b7a, 0x7ffc)")[0].summary).toContain("VFIO_IOMMU_BIND");
    const bind = "VFIO_IOMMU_BIND 14 00 00 00 01 00 00 00 01 00 00 00 2a 00 00 00 d2 04 00 00";
    expect(records(bind)[0].summary).toContain("argsz=0x14 flags=0x1 flags=0x1 pasid=0x2a pid=0x4d2");
    const unbind = bind.replace("BIND", "UNBIND").replace("01 00 00 00 01", "00 00 00 00 01");
    expect(records(unbind)[0].summary).toContain("argsz=0x14 flags=0x0");
    expect(records(unbind)[0].parts).toHaveLength(1);
    const dirty = `VFIO_IOMMU_DIRTY_PAGES 30000000 04000000 ${"0".repeat(16)} 0010000000000000`;
    expect(records(dirty.replaceAll(/(?<= [0-9a-f]*) /g, ""))[0].summary).toContain("iova=0x0 size=0x1000");
    expect(records("ioctl 0x3b70")[0].summary).toContain("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO or VFIO_IOMMU_GET_INFO");
    expect(records("ioctl 0x5401")).toEqual([]);
  });
});

describe("registers", () => {
  it("of debugfs iommu_regset are taken where name and offset agree", () => {
    const [record] = records("CAP\t\t\t0x08\t\t0x00d2008c20660462");
    expect(fields(record)).toMatchObject({ MGAW: "0x26", SAGAW: "0x4" });
    expect(records("CAP\t\t\t0x10\t\t0x00d2008c20660462")).toEqual([]);
  });
});
