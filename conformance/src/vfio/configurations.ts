/** The table of configurations: which IOMMU, with which options, and which kernel's answers. */
import { type IommuPlugin, Scheduler } from "@iommukit/core";
import { FakeIommu } from "@iommukit/core/testing";
import type { ProfileName, VfioParams } from "@iommukit/vfio-type1";
import type { TranscriptHeader } from "./transcript.js";

export interface Configuration {
  readonly iommu: IommuPlugin | undefined;
  readonly profile: ProfileName;
  readonly params: Partial<VfioParams>;
}

function fake(
  name: string,
  bits: number,
  regions: readonly [bigint, bigint, "msi" | "sw-msi"],
  snoop: boolean,
): IommuPlugin {
  return {
    name,
    description: name,
    create: (container) => {
      const iommu = new FakeIommu(container.resolve(Scheduler), name);
      const { ops } = iommu;
      const alloc = ops.domainAlloc.bind(ops);
      Object.assign(ops, {
        domainAlloc: (...args: Parameters<typeof alloc>) =>
          Object.assign(alloc(...args), { aperture: { start: 0n, end: (1n << BigInt(bits)) - 1n } }),
        reservedRegions: () => [{ start: regions[0], length: regions[1], type: regions[2], prot: 0 }],
        enforceCacheCoherency: () => snoop,
        capable: () => true,
      });
      return iommu;
    },
  };
}

export function configurationOf({ kernel, config }: TranscriptHeader): Configuration {
  const profile = kernel.startsWith("6.1.") ? "linux-6.1" : kernel.startsWith("7.") ? "linux-7.3" : "linux-6.12";
  const name = config.replace(/-faults$/, "");
  const table: Record<string, IommuPlugin | undefined> = {
    "intel-cm39": fake("vtd", 39, [0xfee00000n, 0x100000n, "msi"], false),
    "intel-aw48-snoop": fake("vtd", 48, [0xfee00000n, 0x100000n, "msi"], true),
    smmuv3: fake("smmuv3", 48, [0x8000000n, 0x100000n, "sw-msi"], false),
    noiommu: undefined,
  };
  return { iommu: table[name], profile, params: {} };
}
