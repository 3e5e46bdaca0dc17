import { IommuProt, NO_PASID } from "@iommukit/core";
import { PRESETS, type Smmuv3Preset, smmuv3 } from "@iommukit/iommu-smmuv3";
import { DmaStatus, dmaStatusName } from "@iommukit/pci-device";
import { BDF, dmaMachine, faultsOf, probe, type ScenarioDefinition, scenario } from "../kit.js";

const NONE = { sets: 0, ways: 0 };
const usual = PRESETS["mmu-700-like"];
/** Every transaction fetches the entry. */
const UNCACHED: Smmuv3Preset = { ...usual, caches: { ...usual.caches, ste: NONE, cd: NONE, l1: NONE } };

/** A live entry goes from bypass to a table that maps the same, and back: the device never notices (G38). */
export const passthroughDma: ScenarioDefinition = scenario({
  name: "passthrough-dma",
  summary: "a device works on a page while its entry goes from bypass to translation and back",
  finds: { "L-8": ["smmuv3"], "L-29": ["smmuv3"] },
  backends: ["smmuv3"],
  boot: (backend, options) =>
    dmaMachine(backend, options, {
      iommu: smmuv3({ preset: UNCACHED, queueShift: 7 }),
      devices: [{ bdf: BDF, function: { ats: undefined, pri: undefined } }],
    }),
  async prepare(m) {
    const { platform, device, dma } = m;
    const [{ ops }] = platform.iommus;
    const before = device.group?.domain;
    const [identity, table] = [ops.domainAlloc("identity", device), ops.domainAlloc("unmanaged", device)];
    const page = platform.pages.alloc(1, "buffer");
    ops.map(table, BigInt(page), page, 4096, 1, IommuProt.READ | IommuProt.WRITE);
    await ops.attachDev(identity, device);
    const faults = faultsOf(m);
    const failed: string[] = [];
    const stop = platform.trace.on("command:consumed", ({ command, words }) => {
      // CMD_PREFETCH_CONFIG names a stream; its second doubleword is reserved (4.2.1).
      if (command === "CMD_PREFETCH_CONFIG" && (words[2] | words[3]) !== 0)
        failed.push(
          `${command} was consumed with reserved bits: 0x${(words[3] >>> 0).toString(16)} 0x${(words[2] >>> 0).toString(16)}`,
        );
    });
    return {
      actors: {
        change: async () => {
          await ops.attachDev(table, device);
          await ops.attachDev(identity, device);
        },
        device: async () => {
          for (let i = 0; i < 3; i++) {
            const status = await probe(dma, NO_PASID, BigInt(page));
            if (status !== DmaStatus.OK) failed.push(`a write to mapped memory ended with ${dmaStatusName(status)}`);
          }
        },
      },
      async settle() {
        stop();
        if (before) await ops.attachDev(before, device);
        for (const domain of [identity, table]) ops.domainFree(domain);
        platform.pages.free(page);
      },
      check: () => [...failed, ...faults()],
    };
  },
});
