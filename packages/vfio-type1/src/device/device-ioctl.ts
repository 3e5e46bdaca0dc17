/** vfio_pci_core_ioctl: bytes in, bytes and errno out. Unknown requests give ENOTTY. */
import { hex, IommuError, type Task, type UserPointer } from "@iommukit/core";
import { DeviceFlags, DeviceInfo, PciIrq, PciRegion, RegionInfo } from "../uapi/device-structs.js";
import {
  VFIO_DEVICE_FEATURE,
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_IOEVENTFD,
  VFIO_DEVICE_PCI_HOT_RESET,
  VFIO_DEVICE_RESET,
  VFIO_DEVICE_SET_IRQS,
} from "../uapi/ioctls.js";
import { decodeStruct, encodeStruct, offsetofend } from "../uapi/struct.js";
import { deviceFeature } from "./feature.js";
import { getHotResetInfo, hotReset } from "./hot-reset.js";
import type { VfioDevice } from "./vfio-device.js";

export async function deviceIoctl(target: VfioDevice, task: Task, request: number, arg: UserPointer): Promise<number> {
  const { group, device } = target;
  switch (request) {
    case VFIO_DEVICE_GET_INFO:
      return getInfo(target, arg);
    case VFIO_DEVICE_GET_REGION_INFO:
      return getRegionInfo(target, arg);
    case VFIO_DEVICE_GET_IRQ_INFO:
      return target.irqs.getInfo(arg);
    case VFIO_DEVICE_SET_IRQS:
      return target.irqs.set(task, arg);
    case VFIO_DEVICE_RESET:
      await target.reset();
      return 0;
    case VFIO_DEVICE_GET_PCI_HOT_RESET_INFO:
      return getHotResetInfo(device, group.vfio.allDevices(), arg);
    case VFIO_DEVICE_PCI_HOT_RESET:
      return hotReset(group, device, group.vfio.allDevices(), task, arg);
    case VFIO_DEVICE_IOEVENTFD:
      return target.ioEventFds.set(task, arg);
    case VFIO_DEVICE_FEATURE:
      return deviceFeature(group.vfio.profile.features, target.lowPower, task, arg);
    default:
      throw new IommuError("ENOTTY", `a device has no ioctl ${hex(request)}`);
  }
}

async function getInfo(target: VfioDevice, arg: UserPointer): Promise<number> {
  const min = offsetofend(DeviceInfo, "num_irqs");
  const { argsz } = decodeStruct(DeviceInfo, await arg.copyFrom(min));
  if (argsz < min) throw new IommuError("EINVAL", `argsz ${argsz} is less than ${min}`);
  const flags = DeviceFlags.PCI | (target.resettable ? DeviceFlags.RESET : 0);
  const info = encodeStruct(DeviceInfo, { argsz, flags, num_regions: PciRegion.COUNT, num_irqs: PciIrq.COUNT });
  await arg.copyTo(info.subarray(0, Math.min(argsz, DeviceInfo.bytes)));
  return 0;
}

async function getRegionInfo({ regions }: VfioDevice, arg: UserPointer): Promise<number> {
  const { argsz, index } = decodeStruct(RegionInfo, await arg.copyFrom(RegionInfo.bytes));
  if (argsz < RegionInfo.bytes) throw new IommuError("EINVAL", `argsz ${argsz} is less than ${RegionInfo.bytes}`);
  const { head, caps } = regions.info(index, argsz);
  if (caps.length > 0) await arg.copyTo(caps, RegionInfo.bytes);
  await arg.copyTo(head);
  return 0;
}
