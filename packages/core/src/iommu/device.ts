/** struct device, as far as the IOMMU core, its drivers and VFIO see it. */
import type { PciFunction } from "../pci/pci-function.js";
import type { IommuInstance } from "../platform/iommu-plugin.js";
import type { SvaParam } from "../sva/device-init.js";
import type { IommuGroup } from "./group.js";

/** A PCI function as the kernel knows it: its group, its driver's data, its SVA parameters. */
export class Device {
  /** The IOMMU instance that translates for it; undefined for a device that is behind none. */
  iommu: IommuInstance | undefined;
  group: IommuGroup | undefined;
  /** The driver it is bound to ("vfio-pci"); undefined when none is. */
  driver: string | undefined;
  /** dev->iommu_param->sva_param. */
  svaParam: SvaParam | undefined;
  /** Driver-private data of the IOMMU driver (dev_iommu_priv_get). */
  iommuPriv: unknown;

  constructor(
    /** "0000:01:00.0" for PCI. */
    readonly name: string,
    /** StreamID on Arm, source-id on VT-d. */
    readonly rid: number,
    readonly pci: PciFunction,
  ) {}
}
