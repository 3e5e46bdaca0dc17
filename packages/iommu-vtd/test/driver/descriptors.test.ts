import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as Descriptors from "../../src/driver/descriptors.js";
import { DEVICE_TLB_INVALIDATE, PASID_DEVICE_TLB_INVALIDATE } from "../../src/spec/invalidation.js";

fc.configureGlobal({ seed: 20180511 });

const { alignedRange, quadWords, WHOLE_SPACE } = Descriptors;
const drain = { DWD: true, DRD: true };
const device = { rid: 0x0100, pfsid: 0, qdep: 32 };
const hex = (descriptor: Descriptors.Descriptor) => quadWords(descriptor).map((qw) => `0x${qw.toString(16)}`);
const whole = { address: 0n, mask: WHOLE_SPACE };

/** Expected words are those of qi_submit lines that Linux 6.12 recorded, or follow from its formulas. */
describe("descriptors as Linux forms them", () => {
  it.each([
    ["cc_inv, global", Descriptors.contextInvalidate("global"), "0x11", "0x0"],
    ["cc_inv, device", Descriptors.contextInvalidate("device", 4, 0x40), "0x4000040031", "0x0"],
    ["iotlb_inv, global", Descriptors.iotlbInvalidate(drain, "global"), "0xd2", "0x0"],
    ["iotlb_inv, domain", Descriptors.iotlbInvalidate(drain, "domain", 4), "0x400e2", "0x0"],
    [
      "iotlb_inv, one page",
      Descriptors.iotlbInvalidatePages(drain, 5, alignedRange(0xffff8000n, 0xffff8fffn), true),
      "0x500f2",
      "0xffff8040",
    ],
    [
      "iotlb_inv, 32 pages",
      Descriptors.iotlbInvalidatePages(drain, 3, alignedRange(0xfff60000n, 0xfff7ffffn), true),
      "0x300f2",
      "0xfff60045",
    ],
    [
      "iotlb_inv, 33 pages",
      Descriptors.iotlbInvalidatePages(drain, 5, alignedRange(0xfff80000n, 0xfffa0fffn), false),
      "0x500f2",
      "0xfff80006",
    ],
    ["pc_inv, PASID", Descriptors.pasidCacheInvalidate("pasid", 1, 0x42), "0x4200010017", "0x0"],
    ["pc_inv, domain", Descriptors.pasidCacheInvalidate("domain", 7), "0x70007", "0x0"],
    ["p_iotlb_inv, PASID", Descriptors.pasidIotlbInvalidate(1, 0x42), "0x4200010026", "0x0"],
    [
      "p_iotlb_inv, 4 pages",
      Descriptors.pasidIotlbInvalidatePages(1, 0x42, alignedRange(0x7f00_0000_4000n, 0x7f00_0000_7fffn), false),
      "0x4200010036",
      "0x7f0000004002",
    ],
    ["dev_tlb_inv, everything", Descriptors.deviceTlbInvalidate(device, whole), "0x10000000003", "0x7ffffffffffff001"],
    [
      "dev_tlb_inv, two pages, queue depth 5",
      Descriptors.deviceTlbInvalidate({ ...device, qdep: 5 }, alignedRange(0x2000n, 0x3fffn)),
      "0x10000050003",
      "0x2001",
    ],
    [
      "p_dev_tlb_inv, one page, physical function 01:02.3",
      Descriptors.pasidDeviceTlbInvalidate({ ...device, pfsid: 0x0113 }, 0x42, alignedRange(0x1000n, 0x1000n)),
      "0x1100042010" + "03008",
      "0x1000",
    ],
    ["inv_wait, fence", Descriptors.fence(), "0x45", "0x0"],
    [
      "inv_wait, status and page-request drain",
      Descriptors.waitWithStatus({ address: 0x1_2345_6004, data: 2, drain: true }),
      "0x2000000a5",
      "0x123456004",
    ],
    [
      "page_grp_resp",
      Descriptors.pageGroupResponse({ rid: 0x0100, pasid: 0x42, prgi: 9, code: "invalid", last: false }),
      "0x4201001019",
      "0x48",
    ],
  ])("%s", (_name, descriptor, qw0, qw1) => {
    expect(hex(descriptor)).toEqual([qw0, qw1]);
  });

  it("marks a response to a request without PASID", () => {
    expect(
      hex(Descriptors.pageGroupResponse({ rid: 8, pasid: undefined, prgi: 0, code: "failure", last: true })),
    ).toEqual(["0x8f009", "0x4"]);
  });
});

const page = fc.bigInt(0n, (1n << 45n) - 1n);
const range = fc.tuple(page, fc.integer({ min: 1, max: 5000 })).map(([first, count]) => ({
  start: first << 12n,
  end: ((first + BigInt(count)) << 12n) - 1n,
  count,
}));

describe("alignedRange", () => {
  it("covers what it was given, is aligned to its size, and no smaller block does both (L-19)", () => {
    fc.assert(
      fc.property(range, ({ start, end }) => {
        const { address, mask } = alignedRange(start, end);
        const size = 0x1000n << BigInt(mask);
        expect(address % size).toBe(0n);
        expect(address <= start && end < address + size).toBe(true);
        expect(mask === 0 || start / (size / 2n) !== end / (size / 2n)).toBe(true);
      }),
    );
  });
});

/** The range that a device-TLB descriptor stands for (6.5.2.5): with S, the lowest zero bit from bit 12 up ends the size. */
function decodeSize(address: bigint, sized: boolean): { start: bigint; end: bigint } {
  let shift = 12n;
  if (sized) {
    while ((address >> shift) & 1n) shift++;
    shift++;
  }
  const start = (address >> shift) << shift;
  return { start, end: start + (1n << shift) - 1n };
}

describe("device-TLB descriptors", () => {
  it.each([
    [
      "by requester id",
      DEVICE_TLB_INVALIDATE,
      (r: Descriptors.AlignedRange) => Descriptors.deviceTlbInvalidate(device, r),
    ],
    [
      "by PASID",
      PASID_DEVICE_TLB_INVALIDATE,
      (r: Descriptors.AlignedRange) => Descriptors.pasidDeviceTlbInvalidate(device, 5, r),
    ],
  ])("stand for exactly the aligned range, %s (H14)", (_name, table, encode) => {
    fc.assert(
      fc.property(range, ({ start, end }) => {
        const aligned = alignedRange(start, end);
        const words = encode(aligned);
        expect(decodeSize(table.ADDR.getBig(words), table.S.decode(words))).toEqual({
          start: aligned.address,
          end: aligned.address + (0x1000n << BigInt(aligned.mask)) - 1n,
        });
      }),
    );
  });

  it("never set reserved bits", () => {
    fc.assert(
      fc.property(
        range,
        fc.integer({ min: 0, max: 0xffff }),
        fc.integer({ min: 1, max: 32 }),
        ({ start, end }, pfsid, qdep) => {
          const target = { rid: 0xabcd, pfsid, qdep };
          const aligned = alignedRange(start, end);
          expect(DEVICE_TLB_INVALIDATE.reservedViolated(Descriptors.deviceTlbInvalidate(target, aligned))).toBe(false);
          expect(
            PASID_DEVICE_TLB_INVALIDATE.reservedViolated(
              Descriptors.pasidDeviceTlbInvalidate(target, 0xfffff, aligned),
            ),
          ).toBe(false);
        },
      ),
    );
  });
});
