import { Access, type Device, IommuProt, iommuMap, NO_PASID, Translation, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { qemu11Q35, sapphireRapidsLike } from "../../src/presets.js";
import { conventionalBridge, type Machine, machine } from "./machine.js";

const RW = IommuProt.READ | IommuProt.WRITE;
const { OK, FAULT } = TranslationStatus;
/** Bus 2, device 0, function 0: what requests from behind the bridge carry. */
const ALIAS = 0x0200;

function statusOf(m: Machine, rid: number): number {
  return m.chip.translate(rid, NO_PASID, 0, 0x5000, Access.READ, new Translation());
}

function domainOf(dev: Device) {
  const domain = dev.group?.domain;
  if (!domain) throw new Error("no domain");
  return domain;
}

/** A bridge that is plugged: what is behind it joins its group. */
async function bridged(m: Machine) {
  const bridge = conventionalBridge("0000:00:04.0", 2);
  await m.platform.plug({ name: "bridge", segment: 0, create: () => [bridge] });
  return [bridge];
}

describe.each([qemu11Q35, sapphireRapidsLike])("functions behind a conventional bridge (I14), $name", (preset) => {
  it("are translated by the bridge's id, in the domain that they share", async () => {
    const m = await machine({ preset });
    await m.run(async () => {
      const upstream = await bridged(m);
      const [a, b] = [await m.plug("0000:02:01.0", { upstream }), await m.plug("0000:02:02.0", { upstream })];
      const shared = domainOf(a.dev);
      await iommuMap(shared, 0x5000n, 0x1_0020_0000, 0x1000n, RW);
      expect(statusOf(m, ALIAS)).toBe(OK);
      await m.platform.unplug(a.dev.name);
      expect(domainOf(b.dev)).toBe(shared);
      expect(statusOf(m, ALIAS)).toBe(OK);
      await m.platform.unplug(b.dev.name);
      expect(statusOf(m, ALIAS)).toBe(FAULT);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("move with their domain", async () => {
    const m = await machine({ preset });
    await m.run(async () => {
      const upstream = await bridged(m);
      const { dev } = await m.plug("0000:02:01.0", { upstream });
      expect(dev.group?.devices.length).toBe(2);
      const domain = m.ops.domainAlloc("unmanaged", dev);
      await iommuMap(domain, 0x5000n, 0x1_0020_0000, 0x1000n, RW);
      expect(statusOf(m, ALIAS)).toBe(FAULT);
      if (!dev.group) throw new Error("no group");
      await m.platform.groups.attachGroup(domain, dev.group);
      expect([statusOf(m, ALIAS), statusOf(m, dev.rid)]).toEqual([OK, OK]);
      await m.platform.groups.detachGroup(domain, dev.group);
      expect(statusOf(m, ALIAS)).toBe(FAULT);
      m.ops.domainFree(domain);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("leave the id to the function that really has it, and take it back when it goes", async () => {
    const m = await machine({ preset });
    await m.run(async () => {
      const upstream = await bridged(m);
      const other = await m.plug("0000:02:01.0", { upstream });
      const first = await m.plug("0000:02:00.0", { upstream });
      await iommuMap(domainOf(first.dev), 0x5000n, 0x1_0020_0000, 0x1000n, RW);
      expect(statusOf(m, ALIAS)).toBe(OK);
      await m.platform.unplug(first.dev.name);
      expect(other.dev.group?.devices).toContain(other.dev);
      expect(statusOf(m, ALIAS)).toBe(OK);
    });
    expect(await m.platform.close()).toEqual([]);
  });
});
