/** The machine of the peers' cases: devices of three kinds, each in a group of its own, behind VT-d with large pages. */
import { createPlatform, type Platform } from "@iommukit/core";
import { vtd } from "@iommukit/iommu-vtd";
import { e1000e, edu } from "@iommukit/pci-device";
import { vfioType1 } from "@iommukit/vfio-type1";

export interface CaseMachine {
  readonly platform: Platform;
  /** Has a BAR of 1 MiB and MSI. */
  readonly edu: string;
  /** Has MSI-X, and can be reset. */
  readonly network: string;
}

const EDU = "0000:00:05.0";
const NETWORK = "0000:00:08.0";

export async function caseMachine(): Promise<CaseMachine> {
  const platform = await createPlatform({
    iommus: [vtd({ preset: "qemu-11-q35", mode: "legacy" })],
    devices: [edu({ bdf: EDU }), e1000e({ bdf: NETWORK })],
    // The tests raise the limit: one of them makes 262,144 mappings.
    services: [vfioType1({ profile: "linux-7.3", params: { dmaEntryLimit: 0xffff_ffff } })],
  });
  return { platform, edu: EDU, network: NETWORK };
}
