import {
  Access,
  pciAtsQueueDepth,
  pciEnableAts,
  pciEnablePasid,
  pciEnablePri,
  pciPrgRespPasidRequired,
  pciResetBus,
  pciResetFunction,
} from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { Accelerator } from "../src/devices/accelerator/accelerator.js";
import { dmaStatusName } from "../src/dma-status.js";
import { PciBridge } from "../src/pci-bridge.js";
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

  it("has VFs without ids, memory space enable, BARs and link settings of their own (PCIe 9.3.4.1, 9.3.5)", () => {
    const { pf, enable } = setUp();
    const [vf] = enable(1);
    for (let at = 0; at < 0x40; at += 4) vf.writeConfig(at, 4, 0xffff_ffff);
    const header = Array.from({ length: 16 }, (_, word) => vf.readConfig(word * 4, 4));
    expect(header).toEqual([
      0xffff_ffff,
      0x0010_0004, // Bus Master Enable
      pf.readConfig(8, 4),
      ...new Array(8).fill(0),
      pf.readConfig(0x2c, 4),
      0,
      pf.readConfig(0x34, 4),
      0,
      0,
    ]);
    const { pcie } = vf.capabilities;
    for (const at of [8, 0x10, 0x28]) {
      vf.writeConfig(pcie + at, 2, 0x7fff);
      expect(vf.readConfig(pcie + at, 2)).toBe(0);
    }
  });

  it("has the BARs of its VFs in a row, while VF MSE is set (PCIe 9.2.1.1.1)", () => {
    const { bench, pf, sriov, enable } = setUp();
    const vfs = enable(4);
    const answers = (at: number) => !bench.bus.isFree(at, 4);
    const [bar0, bar2] = pf.bars;
    for (const [bar, at] of [[bar0, 0x24] as const, [bar2, 0x2c] as const]) {
      const base = pf.readConfig(sriov + at + 4, 4) * 2 ** 32 + (pf.readConfig(sriov + at, 4) & ~15);
      expect(vfs.map((vf) => vf.barAddress(bar.index) - base)).toEqual([0, 1, 2, 3].map((n) => n * bar.size));
      expect(base % (4 * bar.size)).toBe(0);
      // Writing ones tells the size of one VF's.
      pf.writeConfig(sriov + at, 4, 0xffff_ffff);
      expect((pf.readConfig(sriov + at, 4) & ~15) >>> 0).toBe(2 ** 32 - bar.size);
      pf.writeConfig(sriov + at, 4, base % 2 ** 32);
    }
    const addresses = vfs.map((vf) => vf.barAddress(0));
    expect(addresses.map(answers)).toEqual([true, true, true, true]);
    pf.writeConfig(sriov + 8, 2, 1);
    expect(addresses.map(answers)).toEqual([false, false, false, false]);
    expect(vfs[0].readBar(0, 0x10, new Uint8Array(4))).toBe(false);
    pf.writeConfig(sriov + 8, 2, 9);
    // A larger page of the system moves them apart.
    pf.writeConfig(sriov + 8, 2, 0);
    pf.writeConfig(sriov + 0x20, 4, 0x400);
    const [, second] = enable(2);
    expect(second.barAddress(0) - vfs[0].barAddress(0)).toBe(0x40_0000);
  });

  it("loses its VFs by a reset, and has them back with what was saved (pci_restore_iov_state)", async () => {
    const { bench, pf, sriov, enable } = setUp();
    const [first] = enable(3);
    first.writeConfig(4, 2, 4);
    const address = first.barAddress(0);
    pf.reset("function");
    expect([pf.virtualFunctions?.functions.length, first.present]).toEqual([0, false]);
    expect(first.readConfig(4, 4)).toBe(0xffff_ffff);
    pf.writeConfig(sriov + 0x24, 4, address % 2 ** 32);
    pf.writeConfig(sriov + 0x28, 4, Math.floor(address / 2 ** 32));
    expect(enable(3)[0]).toBe(first);
    await bench.run(async () => {
      await pciResetFunction(pf, bench.scheduler);
      expect(pf.virtualFunctions?.functions.map(({ present }) => present)).toEqual([true, true, true]);
      expect([first.barAddress(0), first.readConfig(4, 2)]).toEqual([address, 0]);
      first.writeConfig(4, 2, 4);
      await pciResetFunction(first, bench.scheduler);
      expect(first.readConfig(4, 2)).toBe(4);
    });
    pf.remove();
    expect([pf.virtualFunctions?.functions.length, first.present]).toEqual([0, false]);
  });

  it("gets its VFs back from a reset of the bus before they get back what they had (pci_reset_bus)", async () => {
    const { bench, pf, enable } = setUp();
    const vfs = enable(2);
    for (const [n, vf] of vfs.entries()) vf.writeConfig(4, 2, n === 0 ? 4 : 0);
    const bridge = new PciBridge({ bdf: "0000:00:1c.0", type: "root port", secondary: pf.rid >>> 8 }, []);
    bridge.connect(pf);
    await bench.run(() => pciResetBus(bridge, [...vfs, pf], bench.scheduler));
    expect(pf.virtualFunctions?.functions.map((vf) => [vf.present, vf.readConfig(4, 2)])).toEqual([
      [true, 4],
      [true, 0],
    ]);
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

  it("gives the credits of a VF back when that is reset or removed, and no other's", async () => {
    const { bench, pf, enable } = setUp();
    bench.enable(pf);
    const vfs = enable(2);
    await bench.run(async () => {
      const ended: string[] = [];
      for (const vf of vfs) {
        vf.writeConfig(4, 2, 6);
        pciEnableAts(vf, 12);
        bench.scheduler.spawn("dma", async () => {
          const { status } = await vf.dma.read(5, 0x1000n, new Uint8Array(8));
          ended.push(`${vf.bdf} ${dmaStatusName(status)}`);
        });
      }
      await bench.scheduler.idle();
      expect(pf.pri?.outstanding).toBe(2);
      vfs[0].reset("function");
      await bench.scheduler.idle();
      expect([ended, pf.pri?.outstanding]).toEqual([["0000:01:00.1 CANCELLED"], 1]);
      vfs[1].remove();
      await bench.scheduler.idle();
      expect([ended[1], pf.pri?.outstanding]).toEqual(["0000:01:00.2 CANCELLED", 0]);
    });
  });
});
