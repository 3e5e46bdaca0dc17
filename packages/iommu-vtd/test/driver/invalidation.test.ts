import { Access, IommuProt, iommuMap, iommuUnmap, type TraceRecord } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { everything, qemu11Q35, sapphireRapidsLike, type VtdPreset } from "../../src/presets.js";
import {
  DEVICE_TLB_INVALIDATE,
  IOTLB_INVALIDATE,
  PASID_CACHE_INVALIDATE,
  PASID_IOTLB_INVALIDATE,
} from "../../src/spec/invalidation.js";
import { PASID_ENTRY } from "../../src/spec/pasid-table.js";
import { type Machine, machine, type PlayedDevice, withFields } from "./machine.js";

const RW = IommuProt.READ | IommuProt.WRITE;
const legacyWith = (fields: Parameters<typeof withFields>[1]) => withFields(qemu11Q35, fields);

function domainOf({ dev }: PlayedDevice) {
  const domain = dev.group?.domain;
  if (!domain) throw new Error("no default domain");
  return domain;
}

/** Words of the descriptors that the unit consumed, waits left out. */
async function words(m: Machine, body: () => Promise<unknown> | undefined): Promise<[string, Int32Array][]> {
  const records = await m.trace(body);
  return records
    .filter((record) => record.name === "command:consumed" && record.command !== "inv_wait_dsc")
    .map((record) => record as Extract<TraceRecord, { name: "command:consumed" }>)
    .map((record) => [record.command, Int32Array.from(record.words)]);
}

async function withDevice<T>(preset: VtdPreset, body: (m: Machine, device: PlayedDevice) => Promise<T>): Promise<T> {
  const m = await machine({ preset });
  return m.run(async () => body(m, await m.plug()));
}

describe("an unmap", () => {
  it("invalidates the smallest aligned block that covers the range, leaves only (IH)", () =>
    withDevice(qemu11Q35, async (m, device) => {
      const domain = domainOf(device);
      await iommuMap(domain, 0x1_5000n, 0x1_0020_0000, 0x6000n, RW);
      const [[name, d], ...rest] = await words(m, () => iommuUnmap(domain, 0x1_5000n, 0x6000n));
      expect([name, rest]).toEqual(["iotlb_inv_dsc", []]);
      expect(IOTLB_INVALIDATE.decode(d)).toMatchObject({
        G: "page",
        DID: 2,
        ADDR: 0x1_0000n,
        AM: 4,
        IH: true,
        DW: true,
        DR: true,
      });
    }));

  it("forgets paging structures as well when it took a table out (IH = 0)", () =>
    withDevice(qemu11Q35, async (m, device) => {
      const domain = domainOf(device);
      await iommuMap(domain, 0x20_0000n, 0x1_0020_1000, 0x20_0000n, RW);
      const [[, d]] = await words(m, () => iommuUnmap(domain, 0x20_0000n, 0x20_0000n));
      expect(IOTLB_INVALIDATE.decode(d)).toMatchObject({ ADDR: 0x20_0000n, AM: 9, IH: false });
    }));

  it.each([
    ["the block is larger than CAP.MAMV", { cap: { MAMV: 3 } }],
    ["the unit has no page-selective invalidation", { cap: { PSI: 0 } }],
  ])("invalidates the domain when %s", (_why, fields) =>
    withDevice(legacyWith(fields), async (m, device) => {
      const domain = domainOf(device);
      await iommuMap(domain, 0n, 0x1_0020_0000, 0x1_0000n, RW);
      const [[, d]] = await words(m, () => iommuUnmap(domain, 0n, 0x1_0000n));
      expect(IOTLB_INVALIDATE.decode(d)).toMatchObject({ G: "domain", DID: 2, AM: 0, IH: false, ADDR: 0n });
    }),
  );

  it("asks for draining only where the unit has it", () =>
    withDevice(legacyWith({ cap: { DWD: 0, DRD: 0 } }), async (m, device) => {
      await iommuMap(domainOf(device), 0n, 0x1_0020_0000, 0x1000n, RW);
      const [[, d]] = await words(m, () => iommuUnmap(domainOf(device), 0n, 0x1000n));
      expect(IOTLB_INVALIDATE.decode(d)).toMatchObject({ DW: false, DR: false });
    }));

  it("goes by PASID where the domain is a first stage", () =>
    withDevice(withFields(sapphireRapidsLike, { ecap: { SSTS: 0 } }), async (m, device) => {
      await iommuMap(domainOf(device), 0n, 0x1_0020_0000, 0x2000n, RW);
      const [[name, d]] = await words(m, () => iommuUnmap(domainOf(device), 0n, 0x2000n));
      expect(name).toBe("p_iotlb_inv_dsc");
      expect(PASID_IOTLB_INVALIDATE.decode(d)).toMatchObject({ G: "page", PASID: 0xffff, AM: 1 });
    }));

  it("reaches the device-TLB of every device of the domain, after the IOTLB (I-7, L-20)", async () => {
    const m = await machine();
    await m.run(async () => {
      const devices = [await m.plug("0000:00:05.0"), await m.plug("0000:00:06.0")];
      const domain = m.ops.domainAlloc("unmanaged", devices[0].dev);
      for (const { dev } of devices) {
        await m.ops.detachDev(domainOf({ dev } as PlayedDevice), dev);
        await m.ops.attachDev(domain, dev);
        await m.platform.sva.iommuSvaDeviceInit(dev, 0, 0);
      }
      await iommuMap(domain, 0n, 0x1_0020_0000, 0x4000n, RW);
      for (const { pci } of devices) pci.invalidations.length = 0;
      const seen = await words(m, () => iommuUnmap(domain, 0n, 0x4000n));
      expect(seen.map(([name]) => name)).toEqual(["iotlb_inv_dsc", "dev_tlb_inv_dsc", "dev_tlb_inv_dsc"]);
      expect(seen.slice(1).map(([, d]) => DEVICE_TLB_INVALIDATE.SID.get(d))).toEqual([0x28, 0x30]);
      for (const { pci } of devices) expect(pci.invalidations).toMatchObject([{ lo: 0, hi: 0, shift: 14, pasid: -1 }]);
    });
  });
});

describe("caching mode (H25)", () => {
  it("makes maps and attaching devices be invalidated", () =>
    withDevice(legacyWith({ cap: { CM: 1 } }), async (m, device) => {
      const domain = m.ops.domainAlloc("unmanaged", device.dev);
      const group = device.dev.group;
      if (!group) throw new Error("no group");
      const attached = await m.descriptors(() => m.platform.groups.attachGroup(domain, group));
      expect(attached).toEqual(["cc_inv_dsc", "iotlb_inv_dsc", "cc_inv_dsc", "iotlb_inv_dsc"]);
      m.translate(device, 0x5000n, Access.READ);
      const [[, d]] = await words(m, () => iommuMap(domain, 0x5000n, 0x1_0020_0000, 0x1000n, RW));
      expect(IOTLB_INVALIDATE.decode(d)).toMatchObject({ G: "page", ADDR: 0x5000n, IH: false });
      expect(m.translate(device, 0x5000n, Access.READ)[0]).toBe(0);
    }));

  it("is nothing that a map pays for without it", () =>
    withDevice(qemu11Q35, async (m, device) => {
      expect(await m.descriptors(() => iommuMap(domainOf(device), 0n, 0x1_0020_0000, 0x1000n, RW))).toEqual([]);
    }));

  it("makes a new PASID table entry be invalidated", () =>
    withDevice(withFields(everything, { cap: { CM: 1 } }), async (m, device) => {
      await m.platform.sva.iommuSvaDeviceInit(device.dev, 1, 0);
      const seen = await m.descriptors(() => m.platform.sva.iommuSvaBindDevice(device.dev, m.process(), 1));
      expect(seen).toEqual(["pc_inv_dsc", "p_iotlb_inv_dsc"]);
    }));
});

describe("PASID tear-down (H24)", () => {
  /** What happened, in order: stores to the entry by what they did, and descriptors by name. */
  function order(records: TraceRecord[]): string[] {
    return records.flatMap((record) => {
      if (record.name === "command:consumed") return record.command === "inv_wait_dsc" ? [] : [record.command];
      if (record.name !== "table:written" || record.table !== PASID_ENTRY.name) return [];
      return [`entry[${(record.address & 63) / 8}] = ${record.value === 0n ? "0" : (record.value & 3n).toString(2)}`];
    });
  }
  const zeroed = [0, 1, 2, 3, 4, 5, 6, 7].map((quad) => `entry[${quad}] = 0`);

  it("takes P off, forgets the PASID, the IOTLB and the device-TLB, then zeroes and drains: a process", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const pasid = await m.share(device, m.process());
      const records = await m.trace(() => m.platform.sva.iommuSvaUnbindDevice(device.dev, pasid));
      expect(order(records)).toEqual([
        "entry[0] = 0",
        "pc_inv_dsc",
        "p_iotlb_inv_dsc",
        "p_dev_tlb_inv_dsc",
        ...zeroed,
        "p_iotlb_inv_dsc",
        "p_dev_tlb_inv_dsc",
      ]);
    });
  });

  it("invalidates by domain where the entry used a second stage (L-10)", () =>
    withDevice(sapphireRapidsLike, async (m, device) => {
      const domain = domainOf(device);
      const seen = await words(m, () => m.ops.detachDev(domain, device.dev));
      expect(seen.map(([name]) => name)).toEqual(["pc_inv_dsc", "iotlb_inv_dsc", "dev_tlb_inv_dsc"]);
      expect(PASID_CACHE_INVALIDATE.decode(seen[0][1])).toMatchObject({ G: "pasid", PASID: 0xffff });
      expect(IOTLB_INVALIDATE.decode(seen[1][1])).toMatchObject({ G: "domain" });
    }));

  it("is not seen half-done: a live entry never has P beside fields of another time (L-7)", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const pasid = await m.share(device, m.process());
      const live = new Int32Array(16);
      const torn: string[] = [];
      const check = (record: TraceRecord) => {
        if (record.name !== "table:written" || record.table !== PASID_ENTRY.name) return;
        const base = record.address - (record.address & 63);
        for (let i = 0; i < 16; i++) live[i] = m.platform.memory.load32(base + i * 4);
        const { P, PGTT, DID } = PASID_ENTRY.decode(live);
        if (P && (PGTT !== "firstStage" || DID !== 1)) torn.push(`PGTT ${PGTT} DID ${DID}`);
      };
      const off = m.platform.trace.subscribe(check);
      await m.platform.sva.iommuSvaUnbindDevice(device.dev, pasid);
      await m.platform.sva.iommuSvaBindDevice(device.dev, m.process(), 1);
      off();
      expect(torn).toEqual([]);
    });
  });
});

describe("a context entry that changes while it is present", () => {
  it("is forgotten with the PASID cache, the IOTLB and the whole device-TLB (L-11, L-12)", () =>
    withDevice(sapphireRapidsLike, async (m, device) => {
      const changed = ["cc_inv_dsc", "pc_inv_dsc", "iotlb_inv_dsc", "dev_tlb_inv_dsc", "p_dev_tlb_inv_dsc"];
      expect(await m.descriptors(() => m.platform.sva.iommuSvaDeviceInit(device.dev, 1, 0))).toEqual(changed);
      const drained = ["iotlb_inv_dsc", "dev_tlb_inv_dsc"];
      const shut = await m.descriptors(() => m.platform.sva.iommuSvaDeviceShutdown(device.dev));
      expect(shut).toEqual([...drained, ...changed]);
    }));
});
