import { beforeEach, describe, expect, it } from "vitest";
import { iommuMap, iommuMapNosync } from "../../src/iommu/iommu-map.js";
import { VirtualTimeScheduler } from "../../src/kernel/virtual-time-scheduler.js";
import { FakeDomain, FakeIommuOps } from "../../src/testing/fake-iommu.js";

let scheduler: VirtualTimeScheduler;
let ops: FakeIommuOps;
let domain: FakeDomain;

beforeEach(() => {
  scheduler = new VirtualTimeScheduler();
  ops = new FakeIommuOps(scheduler);
  domain = new FakeDomain(1, "unmanaged", ops);
});

describe("iommuMapNosync", () => {
  it("writes ranges side by side, of which the hardware hears together", async () => {
    await scheduler.run(async () => {
      await iommuMapNosync(domain, 0x1000n, 0x5000, 0x1000n, 3);
      await iommuMapNosync(domain, 0x2000n, 0x9000, 0x2000n, 3);
    });
    expect(ops.calls).toEqual(["map 1 4096 1", "map 1 8192 2"]);
    expect([...domain.pages]).toEqual([
      [0x1000n, 0x5000],
      [0x2000n, 0x9000],
      [0x3000n, 0xa000],
    ]);
  });

  it("takes back what it has written of a range, and nothing else", async () => {
    await scheduler.run(async () => {
      await iommuMapNosync(domain, 0x1000n, 0x5000, 0x1000n, 3);
      ops.fail("map", "ENOMEM", 1);
      await expect(iommuMapNosync(domain, 0x1f_f000n, 0x5f_f000, 0x20_1000n, 3)).rejects.toThrow("ENOMEM");
    });
    expect([...domain.pages.keys()]).toEqual([0x1000n]);
    expect(ops.calls.at(-1)).toBe("iotlbSync 1");
  });
});

it("iommuMap takes the range back when the hardware cannot be told", async () => {
  ops.fail("iotlbSyncMap", "ETIMEDOUT");
  await scheduler.run(async () => {
    await expect(iommuMap(domain, 0x1000n, 0x5000, 0x2000n, 3)).rejects.toThrow("ETIMEDOUT");
  });
  expect(domain.pages.size).toBe(0);
});
