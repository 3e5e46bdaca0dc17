/**
 * Devices for which the firmware wants memory mapped one to one (F24, RMRR): no program gets them, as its addresses would not be
 * that. Since 6.6 any IOMMU refuses when the DMA of a group is claimed, which blocks it (`__iommu_device_set_domain` of iommu.c);
 * before, Intel's did when it was attached (`intel_iommu_attach_device`).
 */
import { type Device, IommuError, type KernelLog } from "@iommukit/core";
import type { Profile } from "../profile.js";

function needsDirectMapping(device: Device): boolean {
  const regions = device.iommu?.ops.reservedRegions(device) ?? [];
  return regions.some(({ type }) => type === "direct");
}

/** @throws IommuError EINVAL, EPERM when one of the devices is refused at that point */
export function refuseDirect(
  at: Profile["refusesDirect"],
  devices: readonly Device[],
  env: KernelLog & { readonly profile: Profile },
): void {
  const device = env.profile.refusesDirect === at ? devices.find(needsDirectMapping) : undefined;
  if (!device) return;
  env.printk(`${device.driver ?? "pci"} ${device.name}: firmware wants memory mapped one to one for it, refused`);
  throw new IommuError(at === "claim" ? "EINVAL" : "EPERM", `${device.name} needs memory that is mapped one to one`);
}
