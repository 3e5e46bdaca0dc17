/** ioctl numbers of include/uapi/linux/vfio.h: `_IO(';', 100 + n)`, so without a size (F1). Some numbers mean another thing on each kind of descriptor. */

const VFIO_TYPE = 0x3b;
const VFIO_BASE = 100;

function io(n: number): number {
  return (VFIO_TYPE << 8) | (VFIO_BASE + n);
}

/** On a container. */
export const VFIO_GET_API_VERSION = io(0);
export const VFIO_CHECK_EXTENSION = io(1);
export const VFIO_SET_IOMMU = io(2);

/** On a group. */
export const VFIO_GROUP_GET_STATUS = io(3);
export const VFIO_GROUP_SET_CONTAINER = io(4);
export const VFIO_GROUP_UNSET_CONTAINER = io(5);
export const VFIO_GROUP_GET_DEVICE_FD = io(6);

/** On a device. */
export const VFIO_DEVICE_GET_INFO = io(7);
export const VFIO_DEVICE_GET_REGION_INFO = io(8);
export const VFIO_DEVICE_GET_IRQ_INFO = io(9);
export const VFIO_DEVICE_SET_IRQS = io(10);
export const VFIO_DEVICE_RESET = io(11);
export const VFIO_DEVICE_GET_PCI_HOT_RESET_INFO = io(12);
export const VFIO_DEVICE_PCI_HOT_RESET = io(13);
export const VFIO_DEVICE_IOEVENTFD = io(16);
export const VFIO_DEVICE_FEATURE = io(17);

/** On a container with a type1 IOMMU. */
export const VFIO_IOMMU_GET_INFO = io(12);
export const VFIO_IOMMU_MAP_DMA = io(13);
export const VFIO_IOMMU_UNMAP_DMA = io(14);
export const VFIO_IOMMU_DIRTY_PAGES = io(17);
/** Of the 2018 series; never merged. */
export const VFIO_IOMMU_BIND = io(22);
export const VFIO_IOMMU_UNBIND = io(23);

/** What VFIO_GET_API_VERSION answers. */
export const VFIO_API_VERSION = 0;

/** What CHECK_EXTENSION asks about; the first eight kinds are types for SET_IOMMU as well (F2). */
export const VfioExtension = {
  TYPE1_IOMMU: 1,
  SPAPR_TCE_IOMMU: 2,
  TYPE1v2_IOMMU: 3,
  DMA_CC_IOMMU: 4,
  EEH: 5,
  TYPE1_NESTING_IOMMU: 6,
  SPAPR_TCE_v2_IOMMU: 7,
  NOIOMMU_IOMMU: 8,
  UNMAP_ALL: 9,
  UPDATE_VADDR: 10,
} as const;
