/** VFIO_DEVICE_GET_PCI_HOT_RESET_INFO and VFIO_DEVICE_PCI_HOT_RESET: a reset of the bus hits every device on it, so its user must own them all. */
import {
  type Device,
  IommuError,
  type PciFunction,
  pciResetBus,
  type ResetPrepare,
  type Task,
  type UserPointer,
} from "@iommukit/core";
import type { GroupFile, VfioGroup } from "../group.js";
import { HotReset, HotResetDevice, HotResetInfo } from "../uapi/device-structs.js";
import { decodeStruct, encodeStruct } from "../uapi/struct.js";
import { VFIO_PCI } from "../vfio-pci.js";
import type { VfioDevice } from "./vfio-device.js";

/** @throws IommuError ENODEV on a root bus: nothing resets that */
function bridgeAbove({ name, pci }: Device): PciFunction {
  const [bridge] = pci.upstream;
  if (!bridge) throw new IommuError("ENODEV", `${name} is on a root bus, which cannot be reset`);
  return bridge;
}

/** All that is behind the bridge, on its bus or further below. */
function affected(bridge: PciFunction, all: Iterable<Device>): Device[] {
  return [...all].filter(({ pci }) => pci.upstream.includes(bridge));
}

export async function getHotResetInfo(device: Device, all: Iterable<Device>, arg: UserPointer): Promise<number> {
  const { argsz } = decodeStruct(HotResetInfo, await arg.copyFrom(HotResetInfo.bytes));
  if (argsz < HotResetInfo.bytes) throw new IommuError("EINVAL", `argsz ${argsz} is less than ${HotResetInfo.bytes}`);
  const devices = affected(bridgeAbove(device), all);
  const fits = argsz >= HotResetInfo.bytes + devices.length * HotResetDevice.bytes;
  await arg.copyTo(encodeStruct(HotResetInfo, { argsz, flags: 0, count: devices.length }));
  if (!fits) throw new IommuError("ENOSPC", `${devices.length} devices do not fit ${argsz} bytes`);
  for (const [i, { pci, group }] of devices.entries()) {
    const entry = { group_id: group?.id ?? 0, segment: pci.segment, bus: pci.rid >>> 8, devfn: pci.rid & 0xff };
    await arg.copyTo(encodeStruct(HotResetDevice, entry), HotResetInfo.bytes + i * HotResetDevice.bytes);
  }
  return 0;
}

/** vfio_pci_ioctl_pci_hot_reset. @throws IommuError EFAULT; EINVAL; ENODEV; EBADF; ETIMEDOUT a function does not come back */
export async function hotReset(
  own: VfioGroup,
  device: Device,
  all: Iterable<Device>,
  task: Task,
  arg: UserPointer,
): Promise<number> {
  const { argsz, flags, count } = decodeStruct(HotReset, await arg.copyFrom(HotReset.bytes));
  if (argsz < HotReset.bytes || flags !== 0) throw new IommuError("EINVAL", `argsz ${argsz}, flags ${flags}`);
  if (count === 0) throw new IommuError("EINVAL", "no groups are given");
  const bridge = bridgeAbove(device);
  const devices = affected(bridge, all);
  if (count > devices.length) throw new IommuError("EINVAL", `${count} groups for ${devices.length} devices`);
  const bytes = await arg.copyFrom(4 * count, HotReset.bytes);
  const owned = [...new Int32Array(bytes.buffer)].map((fd) => groupOf(task, fd));
  const users: VfioDevice[] = [];
  for (const other of devices) {
    if (other.driver !== VFIO_PCI)
      throw new IommuError("EINVAL", `${other.name} would be reset as well, and is not bound to ${VFIO_PCI}`);
    const group = owned.find(({ iommuGroup }) => iommuGroup === other.group);
    if (!group) throw new IommuError("EINVAL", `${other.name} would be reset as well, and its group was not given`);
    const opened = group.everOpened(other);
    if (opened) users.push(opened);
  }
  const { groups, scheduler } = own.vfio;
  const functions = devices.map(({ pci }) => pci);
  const reset = (prepare: ResetPrepare) => pciResetBus(bridge, functions, scheduler, prepare);
  await unmapped(users, () => groups.whileReset(devices, reset));
  return 0;
}

/** Runs `body` while nobody has a BAR of any of the devices mapped. */
function unmapped([first, ...others]: readonly VfioDevice[], body: () => Promise<void>): Promise<void> {
  return first ? first.unmapped(() => unmapped(others, body)) : body();
}

/** @throws IommuError EBADF, EINVAL not a group's descriptor */
function groupOf(task: Task, fd: number): VfioGroup {
  const { ops } = task.fds.get(fd);
  const { group } = ops as Partial<GroupFile>;
  if (!group) throw new IommuError("EINVAL", `descriptor ${fd} is ${ops.name}, not a group`);
  return group;
}
