/** VFIO_DEVICE_GET_PCI_HOT_RESET_INFO and VFIO_DEVICE_PCI_HOT_RESET: a reset of the bus hits every device on it, so its user must own them all. */
import { type Device, IommuError, pciResetFunction, type Task, type UserPointer } from "@iommukit/core";
import type { GroupFile, VfioGroup } from "../group.js";
import { HotReset, HotResetDevice, HotResetInfo } from "../uapi/device-structs.js";
import { decodeStruct, encodeStruct } from "../uapi/struct.js";

/** Devices that share the bus below the same bridge. @throws IommuError ENODEV on a root bus: nothing resets that */
function affected(device: Device, all: Iterable<Device>): Device[] {
  const [bridge] = device.pci.upstream;
  if (!bridge) throw new IommuError("ENODEV", `${device.name} is on a root bus, which cannot be reset`);
  return [...all].filter(({ pci }) => pci.upstream[0] === bridge);
}

export async function getHotResetInfo(device: Device, all: Iterable<Device>, arg: UserPointer): Promise<number> {
  const { argsz } = decodeStruct(HotResetInfo, await arg.copyFrom(HotResetInfo.bytes));
  if (argsz < HotResetInfo.bytes) throw new IommuError("EINVAL", `argsz ${argsz} is less than ${HotResetInfo.bytes}`);
  const devices = affected(device, all);
  const fits = argsz >= HotResetInfo.bytes + devices.length * HotResetDevice.bytes;
  await arg.copyTo(encodeStruct(HotResetInfo, { argsz, flags: 0, count: devices.length }));
  if (!fits) throw new IommuError("ENOSPC", `${devices.length} devices do not fit ${argsz} bytes`);
  for (const [i, { pci, group }] of devices.entries()) {
    const entry = { group_id: group?.id ?? 0, segment: pci.segment, bus: pci.rid >>> 8, devfn: pci.rid & 0xff };
    await arg.copyTo(encodeStruct(HotResetDevice, entry), HotResetInfo.bytes + i * HotResetDevice.bytes);
  }
  return 0;
}

export async function hotReset(
  own: VfioGroup,
  device: Device,
  all: Iterable<Device>,
  task: Task,
  arg: UserPointer,
): Promise<number> {
  const { argsz, flags, count } = decodeStruct(HotReset, await arg.copyFrom(HotReset.bytes));
  if (argsz < HotReset.bytes || flags !== 0) throw new IommuError("EINVAL", `argsz ${argsz}, flags ${flags}`);
  const devices = affected(device, all);
  if (count === 0 || count > devices.length)
    throw new IommuError("EINVAL", `${count} groups for ${devices.length} devices`);
  const bytes = await arg.copyFrom(4 * count, HotReset.bytes);
  const owned = new Set([...new Int32Array(bytes.buffer)].map((fd) => groupOf(task, fd)));
  const stranger = devices.find(({ group }) => ![...owned].some(({ iommuGroup }) => iommuGroup === group));
  if (stranger) throw new IommuError("EINVAL", `${stranger.name} would be reset as well, and its group was not given`);
  await pciResetFunction(device.pci, own.vfio.scheduler, true);
  return 0;
}

/** @throws IommuError EBADF, EINVAL not a group's descriptor */
function groupOf(task: Task, fd: number): VfioGroup {
  const { ops } = task.fds.get(fd);
  const { group } = ops as Partial<GroupFile>;
  if (!group) throw new IommuError("EINVAL", `descriptor ${fd} is ${ops.name}, not a group`);
  return group;
}
