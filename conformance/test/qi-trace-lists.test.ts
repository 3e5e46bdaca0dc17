/** Caching mode: a scatter list is invalidated once, when all of it is mapped. */
import { describe, expect, it } from "vitest";
import { context, flushes, iotlb, judge, line, mapped, replay, unmapped } from "./trace-lines.js";

const AT = 0xfff8_0000;
const PAGE = 0x1000;
/** Three elements side by side, four pages. */
const list = [mapped(AT, PAGE), mapped(AT + PAGE, 2 * PAGE), mapped(AT + 3 * PAGE, PAGE)];
const device = "attach_device_to_domain: IOMMU: device=0000:00:08.0";
const assign = "cache_tag_assign: dmar0/dmar0 type iotlb did 5 pasid 0 ref 1";

describe("qi-trace, a scatter list without cache tag events", () => {
  const comes = [context(0, 0x40), iotlb(5), device];
  const one = [mapped(AT - PAGE, PAGE), iotlb(5, AT - PAGE)];

  it("is what its task maps side by side until it queues a descriptor", async () => {
    expect(await replay(...comes, ...list, iotlb(5, AT + 2), ...one)).toEqual(["3 passed, 0 failed"]);
  });

  it("ends where the mappings are not side by side", async () => {
    expect(await replay(...comes, mapped(AT + 0x10000, PAGE), ...list, iotlb(5, AT + 2), ...one)).toEqual([
      "FAIL t:4: map 0xfff90000+0x1000: Linux queues nothing",
      "3 passed, 1 failed",
    ]);
  });

  it("has nothing queued for it where the domain has no device yet", async () => {
    expect(await replay(...one, mapped(0, PAGE), ...comes)).toEqual([
      "not applicable: 1 × mapping right before a device comes: its domain may have none",
      "2 passed, 0 failed",
    ]);
  });

  it("is not disturbed by an interrupt of its task", async () => {
    const first = [...comes, ...one, ...list.slice(0, 2)].map((event) => line(event));
    const between = [unmapped(AT - PAGE, PAGE), iotlb(5, AT - PAGE)];
    const rest = [list[2], iotlb(5, AT + 2), ...one].map((event) => line(event));
    for (const flags of ["d.h1.", "d..1."])
      expect(await judge([...first, ...between.map((event) => line(event, { flags })), ...rest])).toEqual([
        "5 passed, 0 failed",
      ]);
  });

  it.each([
    ["fewer pages", iotlb(5, AT + 1), "queues 0x500f2 0xfff80002, Linux 0x500f2 0xfff80001"],
    ["other pages", iotlb(5, AT + 0x10002), "queues 0x500f2 0xfff80002, Linux 0x500f2 0xfff90002"],
    ["the whole domain", iotlb(5), "queues 0x500f2 0xfff80002, Linux 0x500e2 0x0"],
  ])("fails once when Linux invalidates %s", async (_what, descriptor, difference) => {
    expect(await replay(...comes, ...list, descriptor, ...one)).toEqual([
      `FAIL t:4: map 0xfff80000+0x1000, 0xfff81000+0x2000, 0xfff83000+0x1000: ${difference}`,
      "2 passed, 1 failed",
    ]);
  });

  it("is invalidated from its first page, also where the mask hides bits of that", async () => {
    const shifted = [mapped(AT + PAGE, PAGE), mapped(AT + 2 * PAGE, PAGE)];
    expect(await replay(...comes, ...shifted, iotlb(5, AT + PAGE + 2), ...one)).toEqual(["3 passed, 0 failed"]);
    expect((await replay(...comes, ...shifted, iotlb(5, AT + 2), ...one)).at(-1)).toBe("2 passed, 1 failed");
  });

  it("of more pages than a mask can say is invalidated with its domain, which is no lazy flush", async () => {
    const huge = [mapped(0x3fff_f000, 2 * PAGE), iotlb(5)];
    const gathered = [0, 1, 2, 3].map((page) => unmapped(AT + page * PAGE, PAGE));
    const taken = [...gathered, iotlb(5, AT + 2)];
    expect(await replay(...comes, ...list, iotlb(5, AT + 2), ...huge, ...taken)).toEqual(["4 passed, 0 failed"]);
  });

  it("fails once when Linux queues nothing", async () => {
    const goes = [unmapped(AT, 4 * PAGE), iotlb(5, AT + 2)];
    expect((await replay(...comes, ...list, ...one, ...goes)).at(-1)).toBe("3 passed, 1 failed");
  });

  it("fails when it is unmapped under another domain-id than it is mapped under, in a trace that is whole", async () => {
    const events = [...comes, ...list, iotlb(5, AT + 2), unmapped(AT, 4 * PAGE), iotlb(4, AT + 2)];
    const lines = events.map((event) => line(event));
    const difference = "FAIL t:9: unmap from domain-id 4 of what line 5 maps in 5";
    expect(await judge(["# entries-in-buffer/entries-written: 9/9   #P:2", ...lines])).toContain(difference);
    for (const header of ["# entries-in-buffer/entries-written: 9/11   #P:2", "# tracer: nop"])
      expect((await judge([header, ...lines])).at(-1)).toBe("3 passed, 0 failed");
  });

  it("of a domain that a device comes to while the machine runs is followed by a flush of the domain (6.1)", async () => {
    expect(await replay(...comes, iotlb(5), ...list, iotlb(5, AT + 2))).toEqual(["3 passed, 0 failed"]);
    expect(
      (await replay(device, iotlb(5), unmapped(AT, PAGE), iotlb(5, AT), unmapped(AT, PAGE), iotlb(5, AT))).at(-1),
    ).toBe("4 passed, 0 failed");
  });
});

describe("qi-trace, a scatter list with cache tag events", () => {
  /** 7.3 and 6.12.117 assign the tag when they have queued. */
  const comes = [context(0, 0x40), iotlb(5), assign, device];
  const synced = flushes("cache_tag_flush_range_np", 5, AT, 4 * PAGE);

  it("is what lies in the range that is flushed", async () => {
    expect(await replay(...comes, ...list, synced, iotlb(5, AT + 2))).toEqual(["2 passed, 0 failed"]);
  });

  it("fails where nothing or something else is queued for the range", async () => {
    for (const descriptor of [iotlb(5, AT + 1), iotlb(4, AT + 2), iotlb(5), "sched_switch: x"])
      expect((await replay(...comes, ...list, synced, descriptor, mapped(AT - PAGE, PAGE))).at(-1)).toBe(
        "1 passed, 1 failed",
      );
  });

  it("fails where the range is not what was mapped", async () => {
    const other = flushes("cache_tag_flush_range_np", 5, AT, 8 * PAGE);
    expect((await replay(...comes, ...list, other, iotlb(5, AT + 3))).at(-1)).toBe("1 passed, 1 failed");
  });
});

it("qi-trace gives unmaps to the invalidation that they are gathered for", async () => {
  const gathered = [unmapped(AT, PAGE), unmapped(AT + PAGE, 3 * PAGE)];
  const tagged = flushes("cache_tag_flush_range", 5, AT, 4 * PAGE);
  expect(await replay(assign, device, ...list, ...gathered, tagged, iotlb(5, AT + 0x42))).toEqual([
    "5 passed, 0 failed",
  ]);
});
