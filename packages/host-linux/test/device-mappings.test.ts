import { describe, expect, it } from "vitest";
import { DeviceMappings, SharedMapping } from "../src/device-mappings.js";

const BAR = 0xd000_0000;

/** Four pages of a BAR at 0x10000. */
function setUp() {
  const log: string[] = [];
  const bar = { page: (offset: number) => BAR + offset, close: () => log.push("closed") };
  const mappings = new DeviceMappings();
  mappings.add(0x10000n, 0x4000n, new SharedMapping(bar, true, () => log.push("forgotten")));
  const shown = (from = mappings) => [0, 1, 2, 3].map((n) => from.page(0x10000n + BigInt(n * 4096), true));
  return { mappings, log, shown };
}

describe("DeviceMappings", () => {
  it("loses what is unmapped and no more; the file is closed with the last page", () => {
    const { mappings, log, shown } = setUp();
    mappings.remove(0x11000n, 0x12000n);
    expect([mappings.has(0x11000n), shown()]).toEqual([false, [BAR, undefined, BAR + 0x2000, BAR + 0x3000]]);
    mappings.remove(0n, 0x11000n);
    mappings.remove(0x14000n, 0x20000n);
    expect(shown()).toEqual([undefined, undefined, BAR + 0x2000, BAR + 0x3000]);
    expect(log).toEqual([]);
    mappings.remove(0x12000n, 0x14000n);
    expect(log).toEqual(["closed", "forgotten"]);
  });

  it("are a child's as well, until it unmaps its own", () => {
    const { mappings, log, shown } = setUp();
    mappings.remove(0x10000n, 0x12000n);
    const child = mappings.clone();
    expect(shown(child)).toEqual(shown());
    mappings.clear();
    expect([shown(child)[2], log]).toEqual([BAR + 0x2000, []]);
    child.clear();
    expect(log).toEqual(["closed", "forgotten"]);
  });
});
