import { Access, AtsStatus, pciDisableAts, pciEnableAts, type Scheduler, VirtualTimeScheduler } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { DmaStatus } from "../src/dma-status.js";
import { Bench, invalidateRequest, RAM } from "./support/bench.js";
import { probe } from "./support/probe.js";

const RW = Access.READ | Access.WRITE;
const PASID = 5;

/** Lets other threads run at each point. */
class Yielding extends VirtualTimeScheduler {
  override point(): Promise<void> {
    return this.yield();
  }
}

describe("ATS of a function", () => {
  it("asks once per page and then sends translated requests (I9)", () => {
    const bench = new Bench();
    const device = probe(bench);
    bench.enable(device);
    bench.iommu.map(PASID, 0x1000n, { pa: RAM + 0x3000, perms: RW });
    expect(device.dma.tryWrite(PASID, 0x1010n, Uint8Array.of(1, 2))).toBe(DmaStatus.OK);
    expect(device.dma.tryRead(PASID, 0x1011n, new Uint8Array(1))).toBe(DmaStatus.OK);
    expect(bench.iommu.atsRequests).toEqual([{ rid: 0x100, pasid: PASID, address: 0x1000n, access: Access.WRITE }]);
    expect(
      bench.iommu.translations.map(({ pasid, address, access }) => [pasid, address, access & Access.TRANSLATED]),
    ).toEqual([
      [-1, BigInt(RAM + 0x3010), Access.TRANSLATED],
      [-1, BigInt(RAM + 0x3011), Access.TRANSLATED],
    ]);
    expect([...bench.bytes(RAM + 0x3010, 2)]).toEqual([1, 2]);
  });

  it("asks again for a write where it has a translation for reads only", () => {
    const bench = new Bench();
    const device = probe(bench);
    bench.enable(device);
    bench.iommu.map(PASID, 0x1000n, { pa: RAM, perms: Access.READ });
    device.dma.tryRead(PASID, 0x1000n, new Uint8Array(8));
    expect(device.dma.tryWrite(PASID, 0x1000n, new Uint8Array(8))).toBe(DmaStatus.NOT_PRESENT);
    bench.iommu.map(PASID, 0x1000n, { pa: RAM, perms: RW });
    expect(device.dma.tryWrite(PASID, 0x1000n, new Uint8Array(8))).toBe(DmaStatus.OK);
  });

  it("uses untranslated requests where the completion says so (U)", () => {
    const bench = new Bench();
    const device = probe(bench);
    bench.enable(device);
    bench.iommu.map(PASID, 0x1000n, { pa: RAM, perms: RW, untranslatedOnly: true });
    device.dma.tryRead(PASID, 0x1000n, new Uint8Array(8));
    expect(bench.iommu.translations).toEqual([{ rid: 0x100, pasid: PASID, address: 0x1000n, access: Access.READ }]);
  });

  it("stops asking after Unsupported Request until ATS is enabled anew (10.2.4.1)", () => {
    const bench = new Bench();
    const device = probe(bench);
    bench.enable(device);
    bench.iommu.map(PASID, 0x1000n, { pa: RAM, perms: RW });
    bench.iommu.atsStatus = AtsStatus.UR;
    for (let n = 0; n < 3; n++)
      expect(device.dma.tryRead(PASID, 0x1000n, new Uint8Array(8))).toBe(DmaStatus.UNSUPPORTED);
    expect(bench.iommu.atsRequests).toHaveLength(1);
    bench.iommu.atsStatus = AtsStatus.SUCCESS;
    device.writeConfig(device.capabilities.ats + 6, 2, 0);
    device.writeConfig(device.capabilities.ats + 6, 2, 0x8000);
    expect(device.dma.tryRead(PASID, 0x1000n, new Uint8Array(8))).toBe(DmaStatus.OK);
  });

  it("takes Completer Abort, and a translation below the STU, as an error", () => {
    const bench = new Bench();
    const device = probe(bench);
    device.writeConfig(4, 2, 6);
    device.writeConfig(device.capabilities.ats + 6, 2, 0x8004);
    bench.iommu.map(-1, 0x1_0000n, { pa: RAM, perms: RW });
    expect(device.dma.tryRead(-1, 0x1_0000n, new Uint8Array(8))).toBe(DmaStatus.FAULT);
    bench.iommu.map(-1, 0x1_0000n, { pa: RAM, perms: RW, shift: 16 });
    expect(device.dma.tryRead(-1, 0x1_0000n, new Uint8Array(8))).toBe(DmaStatus.OK);
    bench.iommu.atsStatus = AtsStatus.CA;
    expect(device.dma.tryRead(-1, 0x2_0000n, new Uint8Array(8))).toBe(DmaStatus.FAULT);
  });

  it("answers an invalidation after dropping the translations", () => {
    const bench = new Bench();
    const device = probe(bench);
    bench.enable(device);
    bench.iommu.map(PASID, 0x1000n, { pa: RAM, perms: RW });
    device.dma.tryRead(PASID, 0x1000n, new Uint8Array(8));
    device.invalidate(invalidateRequest(device, PASID, 0x1000n, 12, 17));
    expect(device.ats?.atc.size).toBe(0);
    expect(bench.iommu.completions).toEqual([{ rid: 0x100, itagVector: 1 << 17, count: 1 }]);
  });

  it("takes a global invalidation for its own PASID's where it does not have them (I2)", () => {
    const bench = new Bench();
    const left = [true, false].map((globalInvalidate) => {
      const device = probe(bench, { ats: { globalInvalidate } });
      bench.enable(device);
      for (const pasid of [PASID, PASID + 1]) {
        bench.iommu.map(pasid, 0x1000n, { pa: RAM, perms: RW });
        device.dma.tryRead(pasid, 0x1000n, new Uint8Array(8));
      }
      device.invalidate(invalidateRequest(device, PASID, 0x1000n, 12, 0, true));
      return device.ats?.atc.size;
    });
    expect(left).toEqual([0, 1]);
  });

  it("sends as many completions as it has traffic classes, each with that count; 8 is written as 0 (I6)", () => {
    const bench = new Bench();
    const device = probe(bench, { ats: { completions: 8 } });
    bench.enable(device);
    device.invalidate(invalidateRequest(device, PASID, 0n, 64, 31, true));
    expect(bench.iommu.completions).toEqual(new Array(8).fill({ rid: 0x100, itagVector: 0x8000_0000, count: 0 }));
  });

  it("never answers an invalidation that a reset has overtaken", async () => {
    const bench = new Bench();
    const device = probe(bench, { ats: { completionDelay: 1000 } });
    bench.enable(device);
    await bench.run(async () => {
      device.invalidate(invalidateRequest(device, PASID, 0x1000n));
      await bench.scheduler.sleep(2000);
      expect(bench.iommu.completions).toHaveLength(1);
      device.invalidate(invalidateRequest(device, PASID, 0x1000n));
      device.reset("function");
      await bench.scheduler.sleep(2000);
      expect(bench.iommu.completions).toHaveLength(1);
    });
  });

  it("crosses 4 GiB from one page to the next", () => {
    const bench = new Bench();
    const device = probe(bench);
    bench.enable(device);
    for (const [i, page] of [0xffff_f000n, 0x1_0000_0000n].entries())
      bench.iommu.map(PASID, page, { pa: RAM + 0x5000 * i, perms: RW });
    const bytes = Uint8Array.from({ length: 8192 }, (_, i) => i >> 5);
    expect(device.dma.tryWrite(PASID, 0xffff_f000n, bytes)).toBe(DmaStatus.OK);
    expect(bench.bytes(RAM + 0x5000, 4096)).toEqual(bytes.subarray(4096));
  });

  it("forgets everything when ATS is disabled, and locks the STU while it is enabled (I2)", () => {
    const bench = new Bench();
    const device = probe(bench);
    bench.enable(device);
    bench.iommu.map(PASID, 0x1000n, { pa: RAM, perms: RW });
    device.dma.tryRead(PASID, 0x1000n, new Uint8Array(8));
    device.writeConfig(device.capabilities.ats + 6, 2, 0x8003);
    expect(device.readConfig(device.capabilities.ats + 6, 2)).toBe(0x8000);
    device.writeConfig(device.capabilities.ats + 6, 2, 0x0000);
    expect(device.ats?.atc.size).toBe(0);
    device.dma.tryRead(PASID, 0x1000n, new Uint8Array(8));
    expect(bench.iommu.translations.at(-1)).toMatchObject({ pasid: PASID, access: Access.READ });
  });
});

describe("ATS with transactions that take time", () => {
  function setUp() {
    const bench = new Bench();
    Object.assign(bench, { scheduler: new Yielding() satisfies Scheduler });
    const device = probe(bench, {}, { dma: { split: true } });
    bench.enable(device);
    bench.iommu.map(PASID, 0x1000n, { pa: RAM, perms: RW });
    bench.memory.writeBytes(RAM, Uint8Array.of(1));
    bench.memory.writeBytes(RAM + 0x1000, Uint8Array.of(2));
    return { bench, device };
  }

  it("throws a translation away that an invalidation raced with, and fetches it again (I10)", async () => {
    const { bench, device } = setUp();
    const into = new Uint8Array(1);
    await bench.run(async () => {
      bench.scheduler.spawn("dma", async () => {
        await device.dma.read(PASID, 0x1000n, into);
      });
      await bench.scheduler.yield();
      // The old translation is on its way to the device.
      bench.iommu.map(PASID, 0x1000n, { pa: RAM + 0x1000, perms: RW });
      device.invalidate(invalidateRequest(device, PASID, 0x1000n));
      expect(bench.iommu.completions).toHaveLength(1);
      await bench.scheduler.idle();
    });
    expect(bench.iommu.atsRequests).toHaveLength(2);
    expect([...into]).toEqual([2]);
  });

  it("throws a translation away that it asked for before ATS was off", async () => {
    const { bench, device } = setUp();
    await bench.run(async () => {
      bench.scheduler.spawn("dma", async () => void (await device.dma.read(PASID, 0x1000n, new Uint8Array(1))));
      await bench.scheduler.yield();
      pciDisableAts(device);
      pciEnableAts(device, 12);
      await bench.scheduler.idle();
    });
    expect(bench.iommu.atsRequests).toHaveLength(2);
  });

  it.each(["a translation", "data"])("ends as cancelled when it is cancelled while %s is on its way", async (what) => {
    const { bench, device } = setUp();
    await bench.run(async () => {
      if (what === "data") await device.dma.read(PASID, 0x1000n, new Uint8Array(1));
      let status: number | undefined;
      bench.scheduler.spawn("dma", async () => {
        status = (await device.dma.read(PASID, 0x1000n, new Uint8Array(1))).status;
      });
      await bench.scheduler.yield();
      await device.dma.cancel(() => true);
      await bench.scheduler.idle();
      expect(status).toBe(DmaStatus.CANCELLED);
    });
  });

  it("holds the completion back until the transactions that use the translation are over (10.3.1)", async () => {
    const { bench, device } = setUp();
    const into = new Uint8Array(1);
    await bench.run(async () => {
      await device.dma.read(PASID, 0x1000n, into);
      bench.scheduler.spawn("dma", async () => {
        await device.dma.read(PASID, 0x1000n, into);
      });
      await bench.scheduler.yield();
      device.invalidate(invalidateRequest(device, PASID, 0x1000n, 12, 1));
      device.invalidate(invalidateRequest(device, PASID, 0x1000n, 12, 2));
      device.invalidate(invalidateRequest(device, 6, 0x1000n, 12, 3));
      expect(bench.iommu.completions.map(({ itagVector }) => itagVector)).toEqual([8]);
      await bench.scheduler.idle();
    });
    expect(bench.iommu.completions.map(({ itagVector }) => itagVector)).toEqual([8, 6]);
  });

  it("reports Transactions Pending while a request is under way", async () => {
    const { bench, device } = setUp();
    const pending = () => (device.readConfig(device.capabilities.pcie + 0xa, 2) >> 5) & 1;
    await bench.run(async () => {
      bench.scheduler.spawn("dma", async () => {
        await device.dma.read(PASID, 0x1000n, new Uint8Array(1));
      });
      await bench.scheduler.yield();
      expect(pending()).toBe(1);
      await bench.scheduler.idle();
    });
    expect(pending()).toBe(0);
  });
});
