/** vfio_pci_core_ioctl: bytes in, bytes and errno out. */
import { hex, IommuError, type Task, type UserPointer } from "@iommukit/core";
import { DeviceFlags, DeviceInfo, PciIrq, PciRegion, RegionInfo } from "../uapi/device-structs.js";
import { VFIO_DEVICE_GET_INFO, VFIO_DEVICE_GET_REGION_INFO } from "../uapi/ioctls.js";
import { decodeStruct, encodeStruct, offsetofend } from "../uapi/struct.js";
import { regionOffset } from "./regions.js";
import type { VfioDevice } from "./vfio-device.js";

export async function deviceIoctl(
  vfioDevice: VfioDevice,
  _task: Task,
  request: number,
  arg: UserPointer,
): Promise<number> {
  switch (request) {
    case VFIO_DEVICE_GET_INFO:
      return getInfo(arg);
    case VFIO_DEVICE_GET_REGION_INFO:
      return getRegionInfo(vfioDevice, arg);
    default:
      throw new IommuError("ENOTTY", `a device has no ioctl ${hex(request)}`);
  }
}

async function getInfo(arg: UserPointer): Promise<number> {
  const min = offsetofend(DeviceInfo, "num_irqs");
  const { argsz } = decodeStruct(DeviceInfo, await arg.copyFrom(min));
  if (argsz < min) throw new IommuError("EINVAL", `argsz ${argsz} is less than ${min}`);
  const flags = DeviceFlags.PCI | DeviceFlags.RESET;
  const info = encodeStruct(DeviceInfo, { argsz, flags, num_regions: PciRegion.COUNT, num_irqs: PciIrq.COUNT });
  await arg.copyTo(info.subarray(0, Math.min(argsz, DeviceInfo.bytes)));
  return 0;
}

async function getRegionInfo({ regions }: VfioDevice, arg: UserPointer): Promise<number> {
  const { argsz, index } = decodeStruct(RegionInfo, await arg.copyFrom(RegionInfo.bytes));
  if (argsz < RegionInfo.bytes) throw new IommuError("EINVAL", `argsz ${argsz} is less than ${RegionInfo.bytes}`);
  const { size, flags } = regions.get(index);
  await arg.copyTo(encodeStruct(RegionInfo, { argsz, flags, index, size, offset: regionOffset(index) }));
  return 0;
}
