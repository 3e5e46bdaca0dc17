/** vfio_iommu_type1_ioctl: bytes in, bytes and errno out. Unknown requests give ENOTTY. */
import { IommuError, IommuProt, type Kernel, type Task, type UserPointer } from "@iommukit/core";
import type { Profile } from "../profile.js";
import {
  VFIO_CHECK_EXTENSION,
  VFIO_IOMMU_BIND,
  VFIO_IOMMU_DIRTY_PAGES,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_UNBIND,
  VFIO_IOMMU_UNMAP_DMA,
  VfioExtension,
} from "../uapi/ioctls.js";
import { bindProcess, unbindProcess } from "./bind.js";
import { dirtyPages } from "./dirty-pages.js";
import { mapDma } from "./dma-map.js";
import { unmapDma } from "./dma-unmap.js";
import { getInfo } from "./info.js";
import type { VfioIommu } from "./vfio-iommu.js";

export async function type1Ioctl(
  iommu: VfioIommu,
  kernel: Kernel,
  task: Task,
  request: number,
  arg: UserPointer,
): Promise<number> {
  switch (request) {
    case VFIO_CHECK_EXTENSION:
      return type1Extension(iommu.profile, arg.value, iommu);
    case VFIO_IOMMU_GET_INFO:
      return getInfo(iommu, arg);
    case VFIO_IOMMU_MAP_DMA:
      return mapDma(iommu, task, arg);
    case VFIO_IOMMU_UNMAP_DMA:
      return unmapDma(iommu, arg);
    case VFIO_IOMMU_DIRTY_PAGES:
      return dirtyPages(iommu, arg);
    case VFIO_IOMMU_BIND:
      if (iommu.profile.bind) return bindProcess(iommu, kernel, task, arg);
      break;
    case VFIO_IOMMU_UNBIND:
      if (iommu.profile.bind) return unbindProcess(iommu, kernel, task, arg);
      break;
  }
  throw new IommuError("ENOTTY", `type1 has no ioctl 0x${request.toString(16)}`);
}

/** CHECK_EXTENSION of the driver; without a container's IOMMU when it is asked before SET_IOMMU (F10). */
export function type1Extension(profile: Profile, extension: bigint, iommu?: VfioIommu): number {
  switch (extension) {
    case BigInt(VfioExtension.TYPE1_IOMMU):
    case BigInt(VfioExtension.TYPE1v2_IOMMU):
    case BigInt(VfioExtension.UNMAP_ALL):
      return 1;
    case BigInt(VfioExtension.TYPE1_NESTING_IOMMU):
      return profile.nesting === "none" ? 0 : 1;
    case BigInt(VfioExtension.UPDATE_VADDR):
      // Drivers of emulated devices cannot pin while a vaddr is on its way.
      return iommu && iommu.emulatedGroups.size === 0 ? 1 : 0;
    case BigInt(VfioExtension.DMA_CC_IOMMU):
      return iommu && coherent(iommu) ? 1 : 0;
    default:
      return 0;
  }
}

/** Every domain's DMA is snooped, whatever the devices ask for. In 2018 it was enough that mappings asked for it. */
function coherent({ domains, profile }: VfioIommu): boolean {
  const enforced = profile.domainMatch.includes("enforced-coherency");
  return domains.every((domain) => (enforced ? domain.enforcedCoherency : (domain.prot & IommuProt.CACHE) !== 0));
}
