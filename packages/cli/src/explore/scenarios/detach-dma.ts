import { type IommuDomain, IommuProt, iommuMap, iommuUnmap, NO_PASID } from "@iommukit/core";
import type { Case } from "@iommukit/explore";
import { vtd } from "@iommukit/iommu-vtd";
import { type DmaMachine, dmaMachine, probe, type ScenarioDefinition, scenario } from "../kit.js";

const IOVA = 0x10_0000n;

/** A device changes from one domain to the next while it works: nothing of the first is left. */
export const detachDma: ScenarioDefinition = scenario({
  name: "detach-dma",
  summary: "a device works on mapped memory while it changes from one domain to another",
  finds: { "L-10": ["vtd"] },
  boot: dmaMachine,
  prepare,
});

/** The same where the context entry itself names the domain: what the device has translated with it must be over (L-12). */
export const detachLegacy: ScenarioDefinition = scenario({
  name: "detach-legacy",
  summary: "a device works on mapped memory while it changes from one domain to another, in VT-d's legacy mode",
  finds: { "L-12": undefined },
  backends: ["vtd"],
  boot: (backend, options) => dmaMachine(backend, options, { iommu: vtd({ mode: "legacy" }) }),
  prepare,
});

async function prepare(m: DmaMachine): Promise<Case> {
  const { platform, device, dma } = m;
  const { ops } = platform.iommus[0];
  const [first, second] = [ops.domainAlloc("unmanaged", device), ops.domainAlloc("unmanaged", device)];
  const page = platform.pages.alloc(1, "buffer");
  await attach(m, first);
  await iommuMap(first, IOVA, page, 0x1000n, IommuProt.READ | IommuProt.WRITE);
  return {
    actors: {
      move: async () => {
        await detach(m, first);
        await attach(m, second);
        await probe(dma, NO_PASID, IOVA);
      },
      device: () => probe(dma, NO_PASID, IOVA),
    },
    async settle() {
      await detach(m, second);
      await iommuUnmap(first, IOVA, 0x1000n);
      for (const domain of [first, second]) ops.domainFree(domain);
      platform.pages.free(page);
    },
  };
}

/** From the default domain, and back. */
async function attach({ platform, device }: DmaMachine, domain: IommuDomain): Promise<void> {
  if (device.group) await platform.groups.attachGroup(domain, device.group);
}

async function detach({ platform, device }: DmaMachine, domain: IommuDomain): Promise<void> {
  if (device.group) await platform.groups.detachGroup(domain, device.group);
}
