/** vfio_domain and vfio_iommu_group: a domain of one IOMMU driver, and the groups of a container that share it. */
import {
  type Device,
  type IommuDomain,
  IommuError,
  type IommuGroup,
  IommuProt,
  type ReservedRegion,
} from "@iommukit/core";
import type { Profile } from "../profile.js";

export class VfioIommuGroup {
  /** iommu_sva_device_init has been called for the group's devices. */
  svaEnabled = false;

  /** @param parent of a mediated device */
  constructor(
    readonly iommuGroup: IommuGroup,
    private readonly parent?: Device,
  ) {}

  /** What processes are bound to: a mediated device has no PASIDs but its parent's. */
  get devices(): readonly Device[] {
    return this.parent ? [this.parent] : this.iommuGroup.devices;
  }

  /** Every reserved region of its devices. */
  get reserved(): readonly ReservedRegion[] {
    return this.devices.flatMap((device) => device.iommu?.ops.reservedRegions(device) ?? []);
  }

  get isolatedMsi(): boolean {
    return this.devices.every((device) => device.iommu?.ops.capable(device, "isolated-msi"));
  }
}

export class VfioDomain {
  readonly groups: VfioIommuGroup[] = [];
  /** Doorbells that are mapped for the devices' messages: physical page → IOVA (iommu_get_msi_cookie). */
  readonly doorbells = new Map<number, bigint>();

  constructor(
    readonly domain: IommuDomain,
    /** IommuProt bits that every mapping gets besides READ and WRITE. */
    readonly prot: number,
    /** All DMA of the domain is snooped, whatever the device asks for. */
    readonly enforcedCoherency: boolean,
  ) {}
}

/**
 * A domain for the group, not attached yet.
 * @throws IommuError EIO no device is behind an IOMMU; ENOMEM, EOPNOTSUPP from the driver
 */
export function allocDomain(group: VfioIommuGroup): IommuDomain {
  const device = group.devices.find(({ iommu }) => iommu !== undefined);
  if (!device?.iommu) throw new IommuError("EIO", `no device of group ${group.iommuGroup.id} is behind an IOMMU`);
  return device.iommu.ops.domainAlloc("unmanaged", device);
}

/** Mappings are snooped wherever the IOMMU can do it; whether it can is a property of the devices in front of it. */
export function protFor(group: VfioIommuGroup): number {
  return group.devices.every((device) => device.iommu?.ops.capable(device, "cache-coherency")) ? IommuProt.CACHE : 0;
}

/** Why two domains cannot be one, in words; undefined when they can (F22). */
export function incompatibility(profile: Profile, mine: VfioDomain, other: VfioDomain): string | undefined {
  if (mine.domain.ops !== other.domain.ops)
    return `ops differ: ${mine.domain.ops.name} here, ${other.domain.ops.name} there`;
  if (profile.domainMatch.includes("prot") && mine.prot !== other.prot)
    return `prot differs: ${mine.prot} here, ${other.prot} there`;
  if (profile.domainMatch.includes("enforced-coherency") && mine.enforcedCoherency !== other.enforcedCoherency)
    return `snooping is enforced ${mine.enforcedCoherency ? "here" : "there"} only`;
  return undefined;
}
