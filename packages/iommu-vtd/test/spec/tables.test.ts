import { X86_PTE, X86_TABLE } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { IRTE } from "../../src/spec/interrupt-remapping.js";
import {
  DESCRIPTORS,
  DescriptorType,
  INVALIDATION_WAIT,
  IOTLB_INVALIDATE,
  PASID_DEVICE_TLB_INVALIDATE,
} from "../../src/spec/invalidation.js";
import { PAGE_REQUEST_DESCRIPTOR } from "../../src/spec/page-requests.js";
import { bitsOfLevels, FIRST_STAGE_ENTRY, levelsOf, SECOND_STAGE_ENTRY } from "../../src/spec/page-table.js";
import { PASID_ENTRY } from "../../src/spec/pasid-table.js";
import { CONTEXT_ENTRY, SM_CONTEXT_ENTRY, SM_ROOT_ENTRY } from "../../src/spec/root-context.js";

function qwords(words: Int32Array): bigint[] {
  return Array.from(
    { length: words.length / 2 },
    (_, i) => (BigInt(words[2 * i + 1] >>> 0) << 32n) | BigInt(words[2 * i] >>> 0),
  );
}

describe("table entries", () => {
  it("encode root and context entries (H5, H6, H7)", () => {
    expect(qwords(SM_ROOT_ENTRY.encode({ LP: true, LCTP: 0x1000, UP: true, UCTP: 0x2000 }))).toEqual([
      0x1001n,
      0x2001n,
    ]);
    expect(qwords(CONTEXT_ENTRY.encode({ P: true, FPD: true, SSPTPTR: 0x1052000, AW: 1, DID: 0x10 }))).toEqual([
      0x1052003n,
      0x1001n,
    ]);
    const context = SM_CONTEXT_ENTRY.encode({
      P: true,
      DTE: true,
      PASIDE: true,
      PRE: true,
      PDTS: 7,
      PASIDDIRPTR: 0x5000,
      RID_PASID: 0xfffff,
    });
    expect(qwords(context)).toEqual([0x5e1dn, 0xfffffn, 0n, 0n]);
  });

  it("encode a PASID table entry (H8)", () => {
    const entry = PASID_ENTRY.encode({
      P: true,
      AW: 2,
      PGTT: "nested",
      SSADE: true,
      SSPTPTR: 0x1000,
      DID: 0x1234,
      PWSNP: true,
      PGSNP: true,
      SRE: true,
      FSPM: "fiveLevel",
      WPE: true,
      EAFE: true,
      FSPTPTR: 0x2000,
    });
    expect(qwords(entry).slice(0, 4)).toEqual([0x12c9n, 0x1801234n, 0x2095n, 0n]);
  });

  it("encode descriptors as Linux forms them (H13, H14)", () => {
    expect(
      qwords(
        IOTLB_INVALIDATE.encode({
          TYPE: "iotlb",
          G: "page",
          DW: true,
          DR: true,
          DID: 2,
          AM: 9,
          IH: true,
          ADDR: 0x20_0000n,
        }),
      ),
    ).toEqual([0x200f2n, 0x20_0049n]);
    expect(
      qwords(INVALIDATION_WAIT.encode({ TYPE: "wait", SW: true, FN: true, PD: true, SDATA: 2, SADDR: 0x1234 })),
    ).toEqual([0x2_0000_00e5n, 0x1234n]);
    const all = PASID_DEVICE_TLB_INVALIDATE.encode({
      TYPE: "pasidDeviceTlb",
      SID: 0x100,
      PASID: 1,
      S: true,
      ADDR: 0x7fff_ffff_ffff_f000n,
    });
    expect(qwords(all)).toEqual([0x1_0100_0008n, 0x7fff_ffff_ffff_f800n]);
  });

  it("have one layout per descriptor type", () => {
    expect(Object.keys(DESCRIPTORS).map(Number)).toEqual(Object.values(DescriptorType).sort((a, b) => a - b));
  });

  it("encode interrupt remapping entries and page requests (H19)", () => {
    expect(qwords(IRTE.encode({ P: true, FPD: true, V: 0xed, SID: 0x10, SVT: "sourceId" }))).toEqual([
      0xed0003n,
      0x40010n,
    ]);
    const request = PAGE_REQUEST_DESCRIPTOR.encode({
      TYPE: 1,
      PP: true,
      RID: 0x100,
      PASID: 3,
      PM: true,
      RD: true,
      LPIG: true,
      PRGI: 5,
      ADDR: 0x7000,
    });
    expect(qwords(request)).toEqual([0x20_0003_0100_0101n, 0x702dn, 0n, 0n]);
  });
});

describe("paging entries", () => {
  it("of the first stage have the processor's bits (H9)", () => {
    for (const name of ["P", "RW", "US", "PWT", "PCD", "A", "D", "G", "EA", "ADDR", "XD"]) {
      const [vtd, x86] = [FIRST_STAGE_ENTRY.field(name), X86_PTE.field(name)];
      expect([name, vtd.lsb, vtd.msb]).toEqual([name, x86.lsb, x86.msb]);
    }
    expect(FIRST_STAGE_ENTRY.PS.lsb).toBe(X86_TABLE.PS.lsb);
  });

  it("of the second stage (H10)", () => {
    const bits = ["R", "W", "X", "PS", "A", "D", "SNP"].map((name) => SECOND_STAGE_ENTRY.field(name).lsb);
    expect(bits).toEqual([0, 1, 2, 7, 8, 9, 11]);
    expect([1, 2, 3].map((aw) => [levelsOf(aw), bitsOfLevels(levelsOf(aw))])).toEqual([
      [3, 39],
      [4, 48],
      [5, 57],
    ]);
  });
});
