import { Access, hi32, lo32, NO_PASID, Translation } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { faultLine } from "../../src/driver/fault-handler.js";
import { everything, qemu11Q35 } from "../../src/presets.js";
import { FRCD } from "../../src/spec/faults.js";
import { FSTS } from "../../src/spec/registers.js";
import { machine } from "./machine.js";

type Fields = Parameters<typeof FRCD.encode>[0];
const line = (fields: Fields) => faultLine(FRCD.encode({ F: true, ...fields }));

/** Lines are those of recorded kernel logs, or of the kernel's format strings. */
describe("faultLine", () => {
  it.each<[string, Fields]>([
    [
      "DMAR: [DMA Write NO_PASID] Request device [00:05.0] fault addr 0x200000 [fault reason 0x05] PTE Write access is not set",
      { SID: 0x28, FI: 0x20_0000, FR: 5 },
    ],
    [
      "DMAR: [DMA Read NO_PASID] Request device [00:05.0] fault addr 0x300000 [fault reason 0x06] PTE Read access is not set",
      { SID: 0x28, FI: 0x30_0000, FR: 6, T1: true },
    ],
    [
      "DMAR: [DMA Write NO_PASID] Request device [00:05.0] fault addr 0xfffffffff000 [fault reason 0x04] Access beyond MGAW",
      { SID: 0x28, FI: 0xffff_ffff_f000, FR: 4 },
    ],
    [
      "DMAR: [DMA Read PASID 0x2] Request device [6b:1f.7] fault addr 0x7f0000000000 [fault reason 0x71] SM: Present bit in first-level paging entry is clear",
      { SID: 0x6bff, FI: 0x7f00_0000_0000, FR: 0x71, T1: true, PP: true, PV: 2 },
    ],
    [
      "DMAR: [INTR-REMAP] Request device [f0:1f.7] fault index 0x12 [fault reason 0x25] Blocked a compatibility format interrupt request",
      { SID: 0xf0ff, FI: 0x12_0000_0000_0000n, FR: 0x25 },
    ],
    [
      "DMAR: [DMA Write NO_PASID] Request device [00:05.0] fault addr 0x0 [fault reason 0x3f] Unknown",
      { SID: 0x28, FR: 0x3f },
    ],
  ])("%s", (expected, fields) => {
    expect(line(fields)).toBe(expected);
  });

  it("names the device with its PCI segment as Linux 7.3 does", () => {
    const words = FRCD.encode({ F: true, SID: 0x28, FI: 0x20_0000, FR: 5 });
    expect(faultLine(words, 0)).toBe(
      "DMAR: [DMA Write NO_PASID] Request device [0000:00:05.0] fault addr 0x200000 [fault reason 0x05] PTE Write access is not set",
    );
  });
});

describe("the fault event", () => {
  it("prints the status, each record, and gives the registers back", async () => {
    const m = await machine({ preset: qemu11Q35 });
    await m.run(async () => {
      const device = await m.plug();
      m.translate(device, 0x20_0000n, Access.WRITE);
      m.translate(device, 0x30_0000n, Access.READ);
    });
    expect(m.faults()).toEqual([
      "DMAR: DRHD: handling fault status reg 2",
      "DMAR: [DMA Write NO_PASID] Request device [00:05.0] fault addr 0x200000 [fault reason 0x05] PTE Write access is not set",
      "DMAR: DRHD: handling fault status reg 2",
      "DMAR: [DMA Read NO_PASID] Request device [00:05.0] fault addr 0x300000 [fault reason 0x06] PTE Read access is not set",
    ]);
    expect(m.chip.read32(FSTS.offset)).toBe(0);
  });

  it("finds every record when several wait, whichever is first (11.4.7.1)", async () => {
    const m = await machine({ preset: everything });
    await m.run(async () => {
      const device = await m.plug();
      for (let round = 0; round < 3; round++) {
        m.chip.write32(0x38, 0x8000_0000);
        for (let i = 1; i <= 5; i++) m.translate(device, BigInt(i * 0x1000), Access.READ);
        m.chip.write32(0x38, 0);
        expect(m.faults().filter((text) => text.includes("fault addr")).length).toBe(5);
      }
    });
  });

  it("clears the overflow that it found", async () => {
    const m = await machine({ preset: { ...qemu11Q35, faultCompression: false } });
    await m.run(async () => {
      const device = await m.plug();
      m.chip.write32(0x38, 0x8000_0000);
      for (let i = 1; i <= 3; i++) m.translate(device, BigInt(i * 0x1000), Access.READ);
      m.chip.write32(0x38, 0);
    });
    expect(m.faults()[0]).toBe("DMAR: DRHD: handling fault status reg 3");
    expect(m.chip.read32(FSTS.offset)).toBe(0);
  });

  it("reports a function that the kernel does not know", async () => {
    const m = await machine();
    m.chip.translate(0x1234, NO_PASID, hi32(0x1000n), lo32(0x1000n), Access.READ, new Translation());
    expect(m.faults().at(-1)).toBe(
      "DMAR: [DMA Read NO_PASID] Request device [12:06.4] fault addr 0x1000 [fault reason 0x39] SM: Present bit in Root Entry is clear",
    );
  });
});
