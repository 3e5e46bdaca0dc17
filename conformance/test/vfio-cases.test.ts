/** The peers' VFIO cases in the forms that other files may write them in, with what Linux's type1 answers. */
import { describe, expect, it } from "vitest";
import { Report } from "../src/report.js";
import { run } from "../src/runners/vfio.js";
import { evaluate } from "../src/vfio/case-values.js";

type Expect = unknown;
const step = (op: string, args: Readonly<Record<string, unknown>> = {}, expected: Expect = "ok") => ({
  op,
  args,
  expect: expected,
});
const errno = (name: string) => ({ errno: name });

async function judge(...steps: readonly unknown[]): Promise<string[]> {
  const lines: string[] = [];
  const report = new Report((line) => lines.push(line));
  const document = { cases: [{ id: "one", mode: "vfio_type1v2_iommu", steps }] };
  await run([{ path: "f", name: "f", document, records: [] }], report);
  return [...lines, report.lastLine];
}

describe("a number in a VFIO case", () => {
  const symbols = { A: 0x1000n, HPAGE: 0x20_0000n, i: 3n };

  it.each([
    [4096, 4096n],
    ["0x1000", 4096n],
    ["2M (or hugepage)", 0x20_0000n],
    ["A+i*(2*HPAGE/16)", 0xc_1000n],
    ["A(16 pages)", 0x1000n],
    ["A - 1 & ~0xff | 1", 0xf01n],
    ["1<<24", 1n << 24n],
    ["-(1)", -1n],
  ])("%s is what a program means by it", (text, value) => {
    expect(evaluate(text, symbols)).toBe(value);
  });

  it.each(["foo", "1+", "(1", "1 2", "1.5", 1.5, null])("%s is none", (text) => {
    expect(() => evaluate(text, symbols)).toThrow("not a number in a VFIO case: ");
  });
});

describe("VFIO cases", () => {
  it.each([
    ["flags", [["READ"], ["WRITE"], [0, "EINVAL"], ["READ|0x100", "EINVAL"]]],
    ["size", [[4096], ["16*p"], [4095, "EINVAL"], [0, "EINVAL"]]],
    ["iova", [["A"], ["last iova & ~0xfff"], ["A+1", "EINVAL"], ["last iova + 1", "EINVAL"]]],
    ["vaddr", [["BUF+4*PAGE"], ["BUF+1", "EINVAL"], [0, "EFAULT"]]],
  ])("map with the %s of the case", async (name, values) => {
    const steps = values.flatMap(([value, refused]) => {
      const map = step(
        "VFIO_IOMMU_MAP_DMA",
        { iova: "4G", size: 4096, [name]: value },
        refused ? errno(`${refused}`) : "ok",
      );
      return refused ? [map] : [map, step("UNMAP", {}, "ok")];
    });
    expect(await judge(...steps)).toEqual(["1 passed, 0 failed"]);
  });

  it("repeat several steps for each i", async () => {
    const inside = [
      step("MAP_DMA", { iova: "A+i*8192", vaddr: "BUF+i*4096", size: 4096 }),
      step("MAP_DMA", { iova: "A+i*8192", size: 4096 }, errno("EEXIST")),
    ];
    const repeat = (op: string, first: number) => step(op, { i: `${first}..${first + 31}`, do: inside });
    const steps = [
      repeat("REPEAT", 0),
      step("UNMAP", { iova: "A", size: "64*p" }, { size_out: 32 * 4096 }),
      repeat("REPEAT_SHUFFLED", 1),
      step("UNMAP_ALL", {}, { unmapped: 32 * 4096 }),
    ];
    expect(await judge(...steps)).toEqual(["1 passed, 0 failed"]);
  });

  it("ask for devices, regions, interrupts and extensions by name and number", async () => {
    const steps = [
      step("GROUP_GET_DEVICE_FD", { name: "no such device" }, errno("ENODEV")),
      step("VFIO_GROUP_GET_DEVICE_FD", { name: "bdf" }, "fd"),
      step("DEVICE_GET_REGION_INFO", { index: "BAR0, CONFIG" }),
      step("DEVICE_GET_REGION_INFO", { index: 9 }, errno("EINVAL")),
      step("DEVICE_GET_IRQ_INFO", { index: 5 }, errno("EINVAL")),
      step("CHECK_EXTENSION", { type: 77 }, 0),
      step("VFIO_IOMMU_GET_INFO"),
    ];
    expect(await judge(...steps)).toEqual(["1 passed, 0 failed"]);
  });

  it("fail in one line each where a step is wrong, unknown or cannot be read", async () => {
    const lost = step("MAP", { iova: "A", size: 4096 }, errno("EEXIST"));
    expect((await judge(lost))[0]).toBe('FAIL one: MAP 0x1000000+0x1000: success, expected {"errno":"EEXIST"}');
    expect((await judge(step("MAP"), step("dance")))[0]).toBe(
      "FAIL one: dance: the runner does not know the operation",
    );
    expect((await judge(step("MAP", { iova: "somewhere" })))[0]).toBe(
      'FAIL one: not a number in a VFIO case: "somewhere"',
    );
    const inside = step("REPEAT", { i: "0..0", do: [step("dance")] });
    expect((await judge(inside))[0]).toBe("FAIL one: dance: the runner does not know the operation");
  });
});
