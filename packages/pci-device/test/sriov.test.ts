import {
  Access,
  pciAtsQueueDepth,
  pciEnableAts,
  pciEnablePasid,
  pciEnablePri,
  pciPrgRespPasidRequired,
} from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { Accelerator } from "../src/devices/accelerator/accelerator.js";
import { Bench, RAM } from "./support/bench.js";

function setUp() {
  const bench = new Bench();
  const pf = new Accelerator({ bdf: "0000:01:00.0", totalVfs: 4 }, bench.ports());
  pf.writeConfig(4, 2, 6);
  const sriov = pf.capabilities.sriov;
  const enable = (count: number) => {
    pf.writeConfig(sriov + 0x10, 2, count);
    pf.writeConfig(sriov + 8, 2, 9);
    return pf.virtualFunctions?.functions ?? [];
  };
  return { bench, pf, sriov, enable };
}

describe("SR-IOV", () => {
  it("makes virtual functions at offset and stride from the physical one", () => {
    const { pf, sriov, enable } = setUp();
    expect(enable(3).map(({ bdf }) => bdf)).toEqual(["0000:01:00.1", "0000:01:00.2", "0000:01:00.3"]);
    pf.writeConfig(sriov + 0x10, 2, 1);
    expect(pf.readConfig(sriov + 0x10, 2)).toBe(3);
    pf.writeConfig(sriov + 8, 2, 0);
    expect(pf.virtualFunctions?.functions).toEqual([]);
  });

  it("shares PASID and PRI of the physical function, which must enable them first (I3)", () => {
    const { pf, enable } = setUp();
    const [vf] = enable(1);
    expect(() => pciEnablePasid(vf, 0)).toThrow("EINVAL");
    expect(() => pciEnablePri(vf, 8)).toThrow("EINVAL");
    pciEnablePasid(pf, 0);
    pciEnablePri(pf, 16);
    expect(() => pciEnablePasid(vf, 0)).not.toThrow();
    expect(pciEnablePri(vf, 8)).toBe(16);
    expect(pciPrgRespPasidRequired(vf)).toBe(true);
  });

  it("has the STU of its physical function, and refuses another with EINVAL (I2)", () => {
    const { pf, enable } = setUp();
    pciEnableAts(pf, 14);
    const [vf] = enable(1);
    expect(() => pciEnableAts(vf, 12)).toThrow("EINVAL");
    pciEnableAts(vf, 14);
    expect(vf.readConfig(vf.capabilities.ats + 6, 2)).toBe(0x8000);
    expect(vf.ats?.smallestTranslation).toBe(14);
    expect(pciAtsQueueDepth(vf)).toBe(0);
  });

  it("asks for pages under its own requester id with the physical function's credits", async () => {
    const { bench, pf, enable } = setUp();
    pciEnablePasid(pf, 0);
    pciEnablePri(pf, 1);
    pciEnableAts(pf, 12);
    const [first, second] = enable(2);
    for (const vf of [first, second]) {
      vf.writeConfig(4, 2, 6);
      pciEnableAts(vf, 12);
    }
    await bench.run(async () => {
      for (const vf of [first, second])
        bench.scheduler.spawn("dma", async () => void (await vf.dma.read(5, 0x1000n, new Uint8Array(8))));
      await bench.scheduler.idle();
      expect(bench.iommu.pageRequests.map(({ rid }) => rid)).toEqual([0x101]);
      bench.iommu.map(5, 0x1000n, { pa: RAM, perms: Access.READ });
      first.pageResponse({ rid: 0x101, pasid: 5, prgi: 0, code: 0 });
      await bench.scheduler.idle();
      // The second one got the credit when the first was answered.
      expect(bench.iommu.pageRequests.map(({ rid, prgi }) => [rid, prgi])).toEqual([
        [0x101, 0],
        [0x102, 1],
      ]);
      second.pageResponse({ rid: 0x102, pasid: 5, prgi: 1, code: 0 });
      await bench.scheduler.idle();
    });
    expect(pf.pri?.outstanding).toBe(0);
  });
});
