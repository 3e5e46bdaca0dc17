/** What the driver keeps when memory runs out half-way: nothing (iommu_ops: a device that is refused stays where it was). */
import { Access, createPlatform, IommuProt, iommuMap, NO_PASID, Translation, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { vtd } from "../../src/plugin.js";
import { qemu11Q35, sapphireRapidsLike } from "../../src/presets.js";
import { conventionalBridge, Machine } from "./machine.js";

const { OK, FAULT } = TranslationStatus;
const RW = IommuProt.READ | IommuProt.WRITE;

/** `fails` is asked for each allocation, once it is set. */
async function tight(preset: typeof qemu11Q35) {
  const memory = { fails: (_owner: string) => false };
  const platform = await createPlatform({
    iommus: [vtd({ preset })],
    pages: { failAlloc: (owner) => memory.fails(owner) },
  });
  return { m: new Machine(platform), memory };
}

describe.each([qemu11Q35, sapphireRapidsLike])("when memory runs out, $name", (preset) => {
  it("a device without tables is on no domain, and no domain-id is taken", async () => {
    const { m, memory } = await tight(preset);
    await m.run(async () => {
      const first = await m.plug("0000:00:05.0");
      memory.fails = (owner) => /context tables|PASID tables/.test(owner);
      await expect(m.plug("0000:05:00.0")).rejects.toThrow("ENOMEM");
      memory.fails = () => false;
      const next = await m.plug("0000:06:00.0");
      expect([first, next].map(({ dev }) => dev.group?.domain)).toMatchObject([{ did: 2 }, { did: 3 }]);
    });
    expect(await m.platform.close()).toEqual([]);
  });
});

it("a function is on no domain when its bridge's id gets no tables", async () => {
  const { m, memory } = await tight(sapphireRapidsLike);
  await m.run(async () => {
    const bridge = conventionalBridge("0000:00:04.0", 2);
    await m.platform.plug({ name: "bridge", segment: 0, create: () => [bridge] });
    const device = await m.plug("0000:02:01.0", { upstream: [bridge] });
    const domain = device.dev.group?.domain;
    if (!domain) throw new Error("no domain");
    await iommuMap(domain, 0x5000n, 0x1_0020_0000, 0x1000n, RW);
    const behindBridge = () => m.chip.translate(0x200, NO_PASID, 0, 0x5000, Access.READ, new Translation());
    await m.ops.detachDev(domain, device.dev);
    // The function has its tables; the bridge's id has a directory, or not even that.
    for (const some of [0, 1]) {
      let left = some;
      memory.fails = (owner) => owner.includes("PASID tables of 0000:02:01.0") && left-- === 0;
      await expect(m.ops.attachDev(domain, device.dev)).rejects.toThrow("ENOMEM");
      expect([m.translate(device, 0x5000n, Access.READ)[0], behindBridge()]).toEqual([FAULT, FAULT]);
    }
    memory.fails = () => false;
    await m.ops.attachDev(domain, device.dev);
    expect([m.translate(device, 0x5000n, Access.READ)[0], behindBridge()]).toEqual([OK, OK]);
  });
  expect(await m.platform.close()).toEqual([]);
});

it("a domain whose reserved memory does not fit gives its tables back", async () => {
  const beyond = { rid: 0x28, start: 1n << 57n, end: (1n << 57n) + 0xfffn };
  const m = new Machine(await createPlatform({ iommus: [vtd({ preset: qemu11Q35, reservedMemory: [beyond] })] }));
  await m.run(async () => {
    await expect(m.plug("0000:00:05.0")).rejects.toThrow("ERANGE");
  });
  expect(await m.platform.close()).toEqual([]);
});
