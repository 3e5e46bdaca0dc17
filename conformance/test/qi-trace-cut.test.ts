/** Traces that begin or end in the middle of a call, and lines of other forms. */
import { describe, expect, it } from "vitest";
import { recognises } from "../src/runners/qi-trace.js";
import { context, flushes, iotlb, judge, line, mapped, replay, unmapped } from "./trace-lines.js";

const AT = 0xfff8_0000;
const PAGE = 0x1000;
const IN_PART = "not applicable: 1 × call that the file shows only in part";
const later = [mapped(AT, PAGE), iotlb(5, AT), unmapped(AT, PAGE), iotlb(5, AT)];
const elsewhere = line("sched_switch: x", { pid: 7 });

describe("a trace that begins in the middle", () => {
  it("leaves out the descriptor of a call before it", async () => {
    expect(await replay(iotlb(5, AT), ...later)).toEqual([
      "not applicable: 1 × descriptor of a call from before the file begins",
      "2 passed, 0 failed",
    ]);
  });

  it("leaves out a list whose first elements are before it", async () => {
    expect(await replay(mapped(AT + PAGE, PAGE), iotlb(5, AT + 1), ...later)).toContain(IN_PART);
    const rest = [mapped(AT + PAGE, PAGE), mapped(AT + 2 * PAGE, PAGE)];
    expect(await replay(...rest, iotlb(5, AT + 2), ...later)).toContain(IN_PART);
    expect((await replay(...rest, iotlb(5, AT + 2 * PAGE + 2), ...later)).at(-1)).toBe("2 passed, 1 failed");
  });

  it("does not when the CPU has done something else", async () => {
    const lines = [elsewhere, ...[iotlb(5, AT), ...later].map((event) => line(event))];
    expect(await judge(lines)).toEqual(["FAIL t:2: 0x500f2 0xfff80000 belongs to no call", "2 passed, 1 failed"]);
  });

  it("begins in the middle of a device's coming or going as well", async () => {
    const comes = [context(0, 0x40), iotlb(5), "attach_device_to_domain: IOMMU: device=0000:00:08.0"];
    for (let from = 1; from < comes.length; from++)
      expect((await replay(...comes.slice(from), ...later, context(0, 0x48), iotlb(6))).at(-1)).toMatch(/, 0 failed$/);
    expect((await replay(iotlb(5), ...later)).at(-1)).toBe("2 passed, 0 failed");
  });

  it("maps what it does not show", async () => {
    expect(await replay(unmapped(AT, PAGE), iotlb(5, AT))).toEqual([
      "not applicable: 1 × unmap whose mapping the trace does not show in that domain: mapped just before it",
      "1 passed, 0 failed",
    ]);
  });
});

describe("a trace that ends in the middle", () => {
  it("leaves out the list that it ends in", async () => {
    expect(await replay(...later, ...later, mapped(AT, PAGE), mapped(AT + PAGE, PAGE))).toEqual([
      IN_PART,
      "4 passed, 0 failed",
    ]);
  });

  it("leaves out an unmap that nothing can have been queued for yet", async () => {
    const shown = [...later, mapped(AT, PAGE), iotlb(5, AT), unmapped(AT, PAGE)].map((event) => line(event));
    expect(await judge(shown)).toEqual([IN_PART, "3 passed, 0 failed"]);
    expect((await judge([...shown, elsewhere])).at(-1)).toBe("3 passed, 1 failed");
    expect((await judge([...shown, line("sched_switch: x", { flags: "d.h1." })])).at(-1)).toBe("3 passed, 0 failed");
  });

  it("goes on anew where a CPU's events were lost", async () => {
    const lost = "CPU:0 [LOST 12 EVENTS]";
    const before = [...later, unmapped(AT, PAGE)].map((event) => line(event));
    const after = [iotlb(5, AT + PAGE), ...later].map((event) => line(event));
    expect((await judge([...before, lost, ...after])).at(-1)).toBe("4 passed, 0 failed");
    expect((await judge([...before, ...after])).at(-1)).toBe("4 passed, 1 failed");
  });
});

describe("lines", () => {
  const tagged = flushes("cache_tag_flush_range", 5, AT, PAGE);
  const events = [mapped(AT, PAGE), unmapped(AT, PAGE), tagged, iotlb(5, AT + 0x40)];

  it.each([
    ["trace-cmd report", (event: string) => `   <idle>-0     [000]    12.000001: ${event.replace(": ", ":       ")}`],
    ["perf script", (event: string) => `dd   259 [000]    12.000001:       iommu:${event}`],
    ["tgid", (event: string) => `   my dd-259     (    259) [000] d..1.    12.000001: ${event}`],
    ["CRLF", (event: string) => `${line(event)}\r`],
  ])("of the form %s are read", async (_form, form) => {
    const records = events.map(form);
    expect(recognises({ path: "t", name: "t", document: records, records })).toBe(true);
    expect(await judge(records)).toEqual(["2 passed, 0 failed"]);
  });

  it("of other CPUs do not disturb", async () => {
    const other = (event: string) => line(event, { pid: 0, cpu: 123_456 });
    expect(await judge(events.flatMap((event) => [line(event), other("irq_handler_entry: x")]))).toEqual([
      "2 passed, 0 failed",
    ]);
  });

  it.each([
    ["its range and its size differ", "map: IOMMU: iova=0xfff80000 - 0xfff82000 paddr=0x1000 size=4096"],
    ["it has no size", "map: IOMMU: iova=0xfff80000 - 0xfff81000 paddr=0x1000"],
    ["it is not of whole pages", "unmap: IOMMU: iova=0xfff80000 - 0xfff80010 size=16 unmapped_size=16"],
    [
      "it is longer than any memory",
      "unmap: IOMMU: iova=0x0 - 0xffff000000000000 size=18446462598732840960 unmapped_size=18446462598732840960",
    ],
  ])("are failures when %s", async (_why, event) => {
    const lines = await replay(...events, event, "sched_switch: x");
    expect(lines).toEqual([`FAIL t:5: cannot be read: ${event}`, "2 passed, 1 failed"]);
  });

  it("are left out when the file ends in them", async () => {
    for (const event of events.filter((other) => other !== tagged)) {
      const lines = await replay(...events, event.slice(0, -12));
      expect(lines).toContain("not applicable: 1 × line that the file ends in");
      expect(lines.at(-1)).toBe("2 passed, 0 failed");
    }
  });

  it("of another kind of machine are refused", async () => {
    const first = "qi_submit: p_iotlb_inv dmar0: 0x1000050036 0x40 0x0 0x0";
    await expect(replay(mapped(AT, PAGE), first)).rejects.toThrow("t invalidates by PASID (p_iotlb_inv)");
    const other = iotlb(5, AT).replace("dmar0", "dmar1");
    await expect(replay(mapped(AT, PAGE), iotlb(5, AT), other)).rejects.toThrow("more than one unit, dmar0 and dmar1");
  });

  it("are no trace without descriptors", () => {
    const records = [line(mapped(AT, PAGE)), line(unmapped(AT, PAGE))];
    expect(recognises({ path: "t", name: "t", document: records, records })).toBe(false);
  });
});
