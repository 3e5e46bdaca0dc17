import { describe, expect, it } from "vitest";
import { replay } from "./trace-lines.js";

const boot = ["qi_submit: cc_inv dmar0: 0x11 0x0 0x0 0x0", "qi_submit: iotlb_inv dmar0: 0xd2 0x0 0x0 0x0"];
const attach = [
  "cache_tag_assign: dmar0/dmar0 type iotlb did 5 pasid 0 ref 1",
  "attach_device_to_domain: IOMMU: device=0000:00:08.0",
];
const map = "map: IOMMU: iova=0x00000000fff80000 - 0x00000000fffa1000 paddr=0x0000000009800000 size=135168";
const unmap = "unmap: IOMMU: iova=0x00000000fff80000 - 0x00000000fffa1000 size=135168 unmapped_size=135168";
const flushRange =
  "cache_tag_flush_range: dmar0 dmar0[0] type iotlb did 5 [0xfff80000-0xfffa0fff] addr 0xfff80000 pages 0x40 mask 0x6";
const flushed = "qi_submit: iotlb_inv dmar0: 0x500f2 0xfff80046 0x0 0x0";
const flushAll = [
  "cache_tag_flush_all: dmar0/dmar0 type iotlb did 5 pasid 0 ref 1",
  "qi_submit: iotlb_inv dmar0: 0x500e2 0x0 0x0 0x0",
];

describe("qi-trace", () => {
  it("passes when every call queues what Linux queued, under its domain-ids", async () => {
    expect(await replay(...boot, ...attach, map, unmap, flushRange, flushed)).toEqual(["4 passed, 0 failed"]);
  });

  it.each([
    ["another mask", "0x500f2 0xfff80047"],
    ["no hint", "0x500f2 0xfff80006"],
    ["a domain-selective invalidation", "0x500e2 0x0"],
  ])("names the line where Linux queued %s", async (_what, words) => {
    const lines = await replay(
      ...boot,
      ...attach,
      map,
      unmap,
      flushRange,
      `qi_submit: iotlb_inv dmar0: ${words} 0x0 0x0`,
    );
    expect(lines[0]).toMatch(/^FAIL t:6: unmap 0xfff80000\+0x21000: queues 0x500f2 0xfff80046, Linux /);
    expect(lines.at(-1)).toBe("3 passed, 1 failed");
  });

  it("fails where Linux queued nothing", async () => {
    expect(await replay(...attach, map, unmap, flushRange, map)).toContain("2 passed, 1 failed");
  });

  it("fails on a line that cannot be read, and goes on", async () => {
    const lines = await replay(
      ...boot,
      ...attach,
      "qi_submit: iotlb_inv dmar0: 0x12 0x40x0 0x0",
      map,
      unmap,
      flushRange,
      flushed,
    );
    expect(lines).toEqual([
      "FAIL t:5: cannot be read: qi_submit: iotlb_inv dmar0: 0x12 0x40x0 0x0",
      "4 passed, 1 failed",
    ]);
  });

  it("fails on a descriptor that fits nothing", async () => {
    expect((await replay(...attach, map, unmap, flushRange, flushed, flushed))[0]).toBe(
      "FAIL t:7: 0x500f2 0xfff80046 belongs to no call",
    );
  });

  describe("without cache tag events", () => {
    const gone = [
      "qi_submit: cc_inv dmar0: 0x4000050031 0x0 0x0 0x0",
      "qi_submit: iotlb_inv dmar0: 0x500e2 0x0 0x0 0x0",
    ];

    const withoutHint = flushed.replace("80046", "80006");

    it("finds the unmap by its address, which has no hint", async () => {
      expect(await replay(map, unmap, withoutHint)).toEqual(["2 passed, 0 failed"]);
      const others = Array.from({ length: 8 }, () => [map, unmap, withoutHint]).flat();
      expect((await replay(...others, map, unmap, flushed)).at(-1)).toBe("17 passed, 1 failed");
    });

    it("finds it with a hint where the trace is of a newer kernel, recorded without them", async () => {
      expect(await replay(map, unmap, flushed)).toEqual(["2 passed, 0 failed"]);
      expect((await replay(map, unmap, flushed, map, unmap, withoutHint)).at(-1)).toBe("3 passed, 1 failed");
    });

    it("finds the flush of a lazy domain, and the device that goes", async () => {
      const calls = Array.from({ length: 5 }, () => [map, unmap]).flat();
      const lines = await replay(attach[1], ...calls, gone[1], ...gone);
      expect(lines).toEqual(["13 passed, 0 failed"]);
    });

    it("finds maps and the device that comes in caching mode (H25)", async () => {
      const comes = ["qi_submit: cc_inv dmar0: 0x4000000031 0x0 0x0 0x0", gone[1], attach[1]];
      expect(await replay(...comes, map, withoutHint, unmap, withoutHint, ...gone)).toEqual(["4 passed, 0 failed"]);
    });
  });

  it("expects nothing for a lazy unmap, and the domain when it is flushed", async () => {
    expect(await replay(...attach, map, unmap, ...flushAll)).toEqual(["4 passed, 0 failed"]);
  });

  it("expects a flush at the unmap that finds 255 others in its CPU's ring", async () => {
    const calls = Array.from({ length: 256 }, () => [map, unmap]).flat();
    expect(await replay(...attach, ...calls, ...flushAll)).toEqual(["514 passed, 0 failed"]);
    expect(await replay(...attach, ...calls, map, unmap, ...flushAll, ...flushAll)).toEqual(["517 passed, 0 failed"]);
  });

  it("compares what a device that goes leaves to be invalidated", async () => {
    const detach = [
      "remove_device_from_group: IOMMU: groupID=2 device=0000:00:08.0",
      "cache_tag_unassign: dmar0/dmar0 type iotlb did 5 pasid 0 ref 1",
      "qi_submit: cc_inv dmar0: 0x4000050031 0x0 0x0 0x0",
      "qi_submit: iotlb_inv dmar0: 0x500e2 0x0 0x0 0x0",
    ];
    expect(await replay(...attach, map, unmap, flushRange, flushed, ...detach)).toEqual(["4 passed, 0 failed"]);
  });

  it("expects maps and attaching devices to be invalidated in caching mode (H25)", async () => {
    const calls = [
      attach[0],
      "qi_submit: cc_inv dmar0: 0x4000000031 0x0 0x0 0x0",
      "qi_submit: iotlb_inv dmar0: 0x500e2 0x0 0x0 0x0",
      attach[1],
      map,
      flushRange.replace("flush_range", "flush_range_np"),
      flushed.replace("80046", "80006"),
      unmap,
      flushRange,
      flushed,
    ];
    expect(await replay(...calls)).toEqual(["3 passed, 0 failed"]);
  });
});
