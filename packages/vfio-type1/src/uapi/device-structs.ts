/** Structures of the group's and the device's ioctls. */
import { layout } from "@iommukit/core";
import { pad, u8, u16, u32, u64 } from "./struct.js";

const SPEC = "include/uapi/linux/vfio.h";

/** VFIO_GROUP_FLAGS_* */
export const GroupFlags = { VIABLE: 1 << 0, CONTAINER_SET: 1 << 1 } as const;

export const GroupStatus = layout(
  { name: "vfio_group_status", bits: 64, spec: SPEC, summary: "VFIO_GROUP_GET_STATUS" },
  { argsz: u32(0, "at least 8"), flags: u32(4, "VIABLE, CONTAINER_SET") },
);

/** VFIO_DEVICE_FLAGS_* */
export const DeviceFlags = { RESET: 1 << 0, PCI: 1 << 1, CAPS: 1 << 7 } as const;

export const DeviceInfo = layout(
  { name: "vfio_device_info", bits: 192, spec: SPEC, summary: "VFIO_DEVICE_GET_INFO" },
  {
    argsz: u32(0, "at least 16"),
    flags: u32(4, "RESET, PCI, CAPS"),
    num_regions: u32(8, "highest region index + 1"),
    num_irqs: u32(12, "highest interrupt index + 1"),
    cap_offset: u32(16, "offset of the first capability"),
    padding: pad(20, 4),
  },
);

/** VFIO_REGION_INFO_FLAG_* */
export const RegionFlags = { READ: 1 << 0, WRITE: 1 << 1, MMAP: 1 << 2, CAPS: 1 << 3 } as const;

export const RegionInfo = layout(
  { name: "vfio_region_info", bits: 256, spec: SPEC, summary: "VFIO_DEVICE_GET_REGION_INFO" },
  {
    argsz: u32(0, "at least 32"),
    flags: u32(4, "READ, WRITE, MMAP, CAPS"),
    index: u32(8, "which region"),
    cap_offset: u32(12, "offset of the first capability"),
    size: u64(16, "bytes"),
    offset: u64(24, "where the region starts in the device's file"),
  },
);

/** VFIO_REGION_INFO_CAP_* */
export const RegionCapId = { SPARSE_MMAP: 1, TYPE: 2, MSIX_MAPPABLE: 3 } as const;

/** Regions of a PCI device; BARs come first. */
export const PciRegion = { ROM: 6, CONFIG: 7, VGA: 8, COUNT: 9 } as const;

/** VFIO_IRQ_INFO_* */
export const IrqInfoFlags = { EVENTFD: 1 << 0, MASKABLE: 1 << 1, AUTOMASKED: 1 << 2, NORESIZE: 1 << 3 } as const;

export const IrqInfo = layout(
  { name: "vfio_irq_info", bits: 128, spec: SPEC, summary: "VFIO_DEVICE_GET_IRQ_INFO" },
  {
    argsz: u32(0, "at least 16"),
    flags: u32(4, "EVENTFD, MASKABLE, AUTOMASKED, NORESIZE"),
    index: u32(8, "which kind of interrupt"),
    count: u32(12, "how many"),
  },
);

/** Interrupts of a PCI device. */
export const PciIrq = { INTX: 0, MSI: 1, MSIX: 2, ERR: 3, REQ: 4, COUNT: 5 } as const;

/** VFIO_IRQ_SET_* */
export const IrqSetFlags = {
  DATA_NONE: 1 << 0,
  DATA_BOOL: 1 << 1,
  DATA_EVENTFD: 1 << 2,
  ACTION_MASK: 1 << 3,
  ACTION_UNMASK: 1 << 4,
  ACTION_TRIGGER: 1 << 5,
} as const;

export const IrqSet = layout(
  { name: "vfio_irq_set", bits: 160, spec: SPEC, summary: "VFIO_DEVICE_SET_IRQS; then the data" },
  {
    argsz: u32(0, "20 and the data"),
    flags: u32(4, "one kind of data, one action"),
    index: u32(8, "which kind of interrupt"),
    start: u32(12, "first one"),
    count: u32(16, "how many; 0 with DATA_NONE and ACTION_TRIGGER disables all"),
  },
);

export const HotResetInfo = layout(
  {
    name: "vfio_pci_hot_reset_info",
    bits: 96,
    spec: SPEC,
    summary: "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO; then devices",
  },
  {
    argsz: u32(0, "12 and the devices"),
    flags: u32(4, "none for group descriptors"),
    count: u32(8, "devices affected"),
  },
);

export const HotResetDevice = layout(
  { name: "vfio_pci_dependent_device", bits: 64, spec: SPEC, summary: "a device that a hot reset resets as well" },
  {
    group_id: u32(0, "its group"),
    segment: u16(4, "PCI segment"),
    bus: u8(6, "bus"),
    devfn: u8(7, "device and function"),
  },
);

/** VFIO_DEVICE_FEATURE_* */
export const FeatureFlags = { MASK: 0xffff, GET: 1 << 16, SET: 1 << 17, PROBE: 1 << 18 } as const;

export const Feature = layout(
  { name: "vfio_device_feature", bits: 64, spec: SPEC, summary: "VFIO_DEVICE_FEATURE; then the feature's data" },
  { argsz: u32(0, "8 and the data"), flags: u32(4, "number of the feature, GET, SET, PROBE") },
);

export const LowPowerWakeup = layout(
  {
    name: "vfio_device_low_power_entry_with_wakeup",
    bits: 64,
    spec: SPEC,
    summary: "data of VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP",
  },
  { wakeup_eventfd: u32(0, "eventfd to signal when the kernel wakes the device"), reserved: pad(4, 4) },
);

export const HotReset = layout(
  { name: "vfio_pci_hot_reset", bits: 96, spec: SPEC, summary: "VFIO_DEVICE_PCI_HOT_RESET; then group descriptors" },
  { argsz: u32(0, "12 and the descriptors"), flags: u32(4, "none"), count: u32(8, "descriptors") },
);

/** VFIO_DEVICE_IOEVENTFD_* */
export const IoEventFdFlags = { SIZE_MASK: 0xf } as const;

export const IoEventFd = layout(
  { name: "vfio_device_ioeventfd", bits: 256, spec: SPEC, summary: "VFIO_DEVICE_IOEVENTFD" },
  {
    argsz: u32(0, "at least 32"),
    flags: u32(4, "bytes to write: 1, 2, 4 or 8"),
    offset: u64(8, "where in the device's file"),
    data: u64(16, "what to write"),
    fd: u32(24, "eventfd, or -1 to end it"),
    padding: pad(28, 4),
  },
);
