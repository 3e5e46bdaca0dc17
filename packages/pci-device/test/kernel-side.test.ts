import {
  PasidFeature,
  pciAtsPageAligned,
  pciAtsQueueDepth,
  pciDisableAts,
  pciDisablePasid,
  pciDisablePri,
  pciEnableAts,
  pciEnablePasid,
  pciEnablePri,
  pciMaxPasids,
  pciPasidFeatures,
  pciPrepareAts,
  pciPriStopped,
  pciResetFunction,
  pciResetMethods,
} from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { Bench, invalidateRequest } from "./support/bench.js";
import { probe } from "./support/probe.js";

describe("drivers/pci/ats.c on a function (I2–I5)", () => {
  it("tells widths, features, depth and alignment", () => {
    const device = probe(new Bench(), { ats: { queueDepth: 32, pageAligned: true } });
    expect(pciMaxPasids(device)).toBe(65536);
    expect(pciPasidFeatures(device)).toBe(PasidFeature.EXEC | PasidFeature.PRIV);
    expect(pciAtsQueueDepth(device)).toBe(32);
    expect(pciAtsQueueDepth(probe(new Bench(), { ats: { queueDepth: 7 } }))).toBe(7);
    expect(pciAtsPageAligned(device)).toBe(true);
  });

  it("answers EINVAL for what the function does not have (I5)", () => {
    const bare = probe(new Bench(), { ats: undefined, pri: undefined, pasid: undefined, tlpPrefixes: true });
    for (const call of [
      () => pciEnableAts(bare, 12),
      () => pciAtsQueueDepth(bare),
      () => pciEnablePri(bare, 1),
      () => pciEnablePasid(bare, 0),
      () => pciMaxPasids(bare),
      () => pciPasidFeatures(bare),
    ]) {
      expect(call).toThrow("EINVAL");
    }
    expect(pciPriStopped(bare)).toBe(true);
    const noExec = probe(new Bench(), { pasid: { width: 8, execute: false, privileged: false } });
    expect(() => pciEnablePasid(noExec, PasidFeature.EXEC)).toThrow("EINVAL");
  });

  it("answers EINVAL for a translation unit below 4 KiB and for a function that may not be trusted", () => {
    expect(() => pciEnableAts(probe(new Bench()), 11)).toThrow("EINVAL");
    expect(() => pciEnableAts(probe(new Bench(), {}, { untrusted: true }), 12)).toThrow("EINVAL");
  });

  it("answers EBUSY when something is enabled already (I5)", () => {
    const device = probe(new Bench());
    pciEnablePasid(device, 0);
    expect(() => pciEnablePasid(device, 0)).toThrow("EBUSY");
    expect(pciEnablePri(device, 100)).toBe(64);
    expect(() => pciEnablePri(device, 1)).toThrow("EBUSY");
    pciEnableAts(device, 12);
    expect(() => pciEnableAts(device, 12)).toThrow("EBUSY");
    expect(() => pciPrepareAts(device, 12)).toThrow("EBUSY");
  });

  it("lets PASID change only while ATS is off, as does the function itself (7.8.9.3)", () => {
    const device = probe(new Bench());
    pciEnableAts(device, 12);
    expect(() => pciEnablePasid(device, 0)).toThrow("EBUSY");
    device.writeConfig(device.capabilities.pasid + 6, 2, 1);
    expect(device.pasid.enabled).toBe(false);
    pciDisableAts(device);
    pciEnablePasid(device, PasidFeature.PRIV);
    expect([device.pasid.enabled, device.pasid.privileged, device.pasid.execute]).toEqual([true, true, false]);
    pciEnableAts(device, 12);
    expect(() => pciDisablePasid(device)).toThrow("EBUSY");
    pciDisableAts(device);
    pciDisablePri(device);
    pciDisablePasid(device);
    expect(device.pasid.enabled).toBe(false);
  });
});

describe("pci_reset_function (I12)", () => {
  it("resets by FLR, waits 100 ms, and gives PASID, PRI, ATS, BARs and interrupts back (I12)", async () => {
    const bench = new Bench();
    const device = probe(bench);
    bench.enable(device, 16);
    device.writeConfig(device.capabilities.msi + 4, 4, 0xfee0_1000);
    device.writeConfig(device.capabilities.msi + 2, 2, 1);
    const address = device.barAddress(0);
    await bench.run(() => pciResetFunction(device, bench.scheduler));
    expect(bench.scheduler.now).toBeGreaterThanOrEqual(100_000_000);
    expect(device.resets).toBe(1);
    expect([device.pasid.enabled, device.pri?.usable, device.pri?.allocation, device.ats?.enabled]).toEqual([
      true,
      true,
      16,
      true,
    ]);
    expect([device.barAddress(0), device.readConfig(device.capabilities.msi + 4, 4)]).toEqual([address, 0xfee0_1000]);
    expect(device.mayMaster).toBe(true);
  });

  it("waits for a function that answers nothing for a while, having prepared before it (6.6.2, I12)", async () => {
    const bench = new Bench();
    const device = probe(bench, {}, { resetTime: 250_000_000 });
    bench.enable(device, 16);
    const seen: unknown[] = [];
    await bench.run(async () => {
      bench.scheduler.spawn("look", async () => {
        await bench.scheduler.sleep(200_000_000);
        device.invalidate(invalidateRequest(device, -1, 0n));
        seen.push(device.readConfig(0, 4), device.readConfig(4, 2), bench.iommu.completions.length);
        expect(device.readBar(0, 0, new Uint8Array(4))).toBe(false);
      });
      await pciResetFunction(device, bench.scheduler, false, async () => {
        seen.push(device.resets);
      });
      expect(bench.scheduler.now).toBeGreaterThanOrEqual(250_000_000);
    });
    expect(seen).toEqual([0, 0xffff_ffff, 0xffff, 0]);
    expect([device.resets, device.ats?.enabled, device.mayMaster]).toEqual([1, true, true]);
    device.invalidate(invalidateRequest(device, -1, 0n));
    expect(bench.iommu.completions).toHaveLength(1);
  });

  it("resets by power management where there is no FLR, and by the bus where the function is alone on it", async () => {
    const bench = new Bench();
    const device = probe(bench, { functionLevelReset: false });
    expect(pciResetMethods(device, false)).toEqual(["pm"]);
    await bench.run(() => pciResetFunction(device, bench.scheduler));
    expect(device.resets).toBe(1);
    const stubborn = probe(bench, { functionLevelReset: false, powerManagement: undefined }, { bdf: "0000:02:00.0" });
    await expect(bench.run(() => pciResetFunction(stubborn, bench.scheduler))).rejects.toThrow("ENOTTY");
  });
});

describe("power states", () => {
  it("answers configuration accesses only in D3hot", () => {
    const bench = new Bench();
    const device = probe(bench);
    device.writeConfig(4, 2, 6);
    device.writeConfig(device.capabilities.pm + 4, 2, 3);
    expect([device.mayMaster, device.readBar(0, 0, new Uint8Array(4)), device.readConfig(0, 2)]).toEqual([
      false,
      false,
      0x1234,
    ]);
  });

  it("are left by a function level reset, which D3hot does not keep out (PCIe 5.3.1.4, 6.6.2)", () => {
    const device = probe(new Bench());
    device.writeConfig(device.capabilities.pm + 4, 2, 3);
    device.writeConfig(device.capabilities.pcie + 8, 2, 0x8000);
    device.writeConfig(4, 2, 6);
    expect([device.readConfig(device.capabilities.pm + 4, 2), device.mayMaster]).toEqual([0, true]);
  });

  it("lose the function's state on the way from D3hot to D0, and on no other (PCIe 5.3.1.4)", () => {
    const device = probe(new Bench());
    const resets = [0, 3, 3, 0, 0].map((state) => {
      device.writeConfig(device.capabilities.pm + 4, 2, state);
      return device.resets;
    });
    expect(resets).toEqual([0, 0, 0, 1, 1]);
  });

  it("that the function does not have cannot be entered (PCIe 7.5.2.2)", () => {
    const device = probe(new Bench(), { powerManagement: { Version: 3, D2Support: true } });
    const states = [1, 2, 1, 0].map((state) => {
      device.writeConfig(device.capabilities.pm + 4, 2, state);
      return device.readConfig(device.capabilities.pm + 4, 2);
    });
    expect(states).toEqual([0, 2, 2, 0]);
  });
});
