import { Access, AtsStatus, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { machine } from "./machine.js";

describe("a process on a device", () => {
  it("is translated through its own page table, after a page request brought the page in", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const mm = m.process();
      const address = await mm.mmap({ length: 0x4000 });
      const pasid = await m.share(device, mm);
      const [status, completion] = m.ats(device, address, Access.READ | Access.WRITE, pasid);
      expect([status, completion.read, completion.write]).toEqual([AtsStatus.SUCCESS, false, false]);
      m.pageRequest(device, pasid, address, 7, { write: true });
      await m.platform.scheduler.idle();
      expect(device.pci.responses).toEqual([{ rid: device.dev.rid, pasid, prgi: 7, code: 0 }]);
      const [again, filled] = m.ats(device, address, Access.READ | Access.WRITE, pasid);
      expect([again, filled.read, filled.write]).toEqual([AtsStatus.SUCCESS, true, true]);
      expect(m.translate(device, address, Access.READ, pasid)[0]).toBe(TranslationStatus.OK);
      await m.platform.sva.iommuSvaUnbindDevice(device.dev, pasid);
      await m.platform.sva.iommuSvaDeviceShutdown(device.dev);
    });
    expect(m.faults()).toEqual([]);
    expect(await m.platform.close()).toEqual([]);
  });
});
