/**
 * vfio_iommu_bind_group, unbind_group, replay_bind of patch 13/40: one address space on every device of a group. A group
 * has one device for SVA: inside a group the IOMMU does not see who talks to whom (I16).
 *
 * mm_exit never needs iommu->lock, so whoever holds that lock may wait for a running mm_exit (S-2, S-3). The branches on
 * `has("S-…")` are the patch as posted.
 */
import { type Device, IOMMU_SVA_FEAT_IOPF, IommuError, isErrno, type MmExitHandler } from "@iommukit/core";
import type { VfioIommuGroup } from "./domain.js";
import type { VfioIommu } from "./vfio-iommu.js";
import { VFIO_PASID_INVALID, type VfioMm } from "./vfio-mm.js";

/** vfio_iommu_mm_exit: called for each device of the container; the first call finds the address space, the others nothing (F33). */
export const vfioMmExit: MmExitHandler = async (_device, pasid, drvdata) => {
  const iommu = drvdata as VfioIommu;
  await (iommu.has("S-2") ? iommu.lock : iommu.mmLock).with(() => {
    const found = iommu.mms.find((vfioMm) => vfioMm.pasid === pasid);
    if (found) forget(iommu, found);
  });
  return 0;
};

/** Takes an address space off the list. Under mmLock (in the patch: iommu->lock). */
export function forget(iommu: VfioIommu, vfioMm: VfioMm): void {
  iommu.mms.splice(iommu.mms.indexOf(vfioMm), 1);
  if (!iommu.has("S-9")) vfioMm.mm.mmdrop();
}

/** @throws IommuError EINVAL a group of several devices; what init and bind refuse with. No side effect then. */
export async function bindGroup(iommu: VfioIommu, group: VfioIommuGroup, vfioMm: VfioMm): Promise<void> {
  if (iommu.has("S-1")) return bindGroupAsPosted(iommu, group, vfioMm);
  const device = onlyDevice(group);
  const enabledHere = !group.svaEnabled;
  if (enabledHere) await enableGroup(iommu, group);
  try {
    vfioMm.pasid = await bindDevice(iommu, device, vfioMm);
  } catch (error) {
    if (enabledHere) await disableGroup(iommu, group);
    throw error;
  }
}

/** The device that the group shares address spaces through; its own group is that of a mediated device's parent. */
function onlyDevice({ devices: [device], iommuGroup }: VfioIommuGroup): Device {
  const { id, devices } = device?.group ?? iommuGroup;
  if (devices.length === 1) return device;
  throw new IommuError(
    "EINVAL",
    `group ${id} has ${devices.length} devices (${devices.map(({ name }) => name).join(", ")}); SVA needs a group of one`,
  );
}

/** Groups of one container may share a device: the process is bound to it once. */
async function bindDevice(iommu: VfioIommu, device: Device, vfioMm: VfioMm): Promise<number> {
  for (const { drvdata, ioMm } of device.svaParam?.mmList ?? [])
    if (drvdata === iommu && ioMm.mm === vfioMm.mm) return ioMm.pasid;
  const { group } = device;
  if (!group) throw new IommuError("ENODEV", `${device.name} is in no group any more`);
  return group.mutex.with(() => iommu.env.sva.bindDeviceLocked(device, vfioMm.mm, IOMMU_SVA_FEAT_IOPF, iommu));
}

/** All devices or none (S-4). */
export async function enableGroup(iommu: VfioIommu, group: VfioIommuGroup): Promise<void> {
  const { env } = iommu;
  const done: Device[] = [];
  try {
    for (const device of group.devices) {
      if (iommu.has("S-7")) await env.sva.iommuSvaDeviceInit(device, IOMMU_SVA_FEAT_IOPF, 0, vfioMmExit);
      else await env.svaDevices.enable(device, vfioMmExit);
      done.push(device);
    }
  } catch (error) {
    if (!iommu.has("S-4")) for (const device of done.reverse()) await disableDevice(iommu, group, device);
    throw error;
  }
  group.svaEnabled = true;
}

/** Removes what this container has still bound on the group's devices, and turns SVA off where nobody else uses it. */
export async function disableGroup(iommu: VfioIommu, group: VfioIommuGroup): Promise<void> {
  if (!group.svaEnabled) return;
  for (const device of group.devices) await disableDevice(iommu, group, device);
  group.svaEnabled = false;
}

async function disableDevice(iommu: VfioIommu, group: VfioIommuGroup, device: Device): Promise<void> {
  if (iommu.has("S-7")) return iommu.env.sva.iommuSvaDeviceShutdown(device);
  if (!sharedWithin(iommu, group, device)) {
    // Waits for an mm_exit that runs as well: it has the container in its hands.
    for (const { drvdata, ioMm } of [...(device.svaParam?.mmList ?? [])])
      if (drvdata === iommu) await unbindDevice(iommu, device, ioMm.pasid);
  }
  await iommu.env.svaDevices.disable(device);
}

/** Another group of the container needs the device's bonds. */
function sharedWithin(iommu: VfioIommu, group: VfioIommuGroup, device: Device): boolean {
  for (const other of iommu.svaGroups())
    if (other !== group && other.svaEnabled && other.devices.includes(device)) return true;
  return false;
}

/** An address space that exits meanwhile takes its bonds away itself: ESRCH is what we wanted. */
export async function unbindGroup(iommu: VfioIommu, group: VfioIommuGroup, vfioMm: VfioMm): Promise<void> {
  if (vfioMm.pasid === VFIO_PASID_INVALID) return;
  for (const device of group.devices) await unbindDevice(iommu, device, vfioMm.pasid);
}

async function unbindDevice(iommu: VfioIommu, device: Device, pasid: number): Promise<void> {
  try {
    await iommu.env.sva.unbindDeviceLocked(device, pasid);
  } catch (error) {
    if (!isErrno(error)) throw error;
  }
}

/**
 * Binds to a new group what the container is bound to already (F34). Address spaces that are exiting are left out.
 * @throws IommuError as bindGroup; the group has no bond then
 */
export async function replayBind(iommu: VfioIommu, group: VfioIommuGroup): Promise<void> {
  const bound: VfioMm[] = [];
  for (const vfioMm of [...iommu.mms]) {
    // A process that exits meanwhile leaves the list, and its struct may be gone (the copy holds no reference).
    if (!iommu.mms.includes(vfioMm) || !vfioMm.mm.mmgetNotZero()) continue;
    try {
      await bindGroup(iommu, group, vfioMm);
      bound.push(vfioMm);
    } catch (error) {
      for (const done of bound.reverse()) await unbindNewcomer(iommu, group, done);
      if (!iommu.has("S-5")) await disableGroup(iommu, group);
      throw error;
    } finally {
      // Not mmput: the last user would run mm_exit here and now, under iommu->lock (B9).
      vfioMm.mm.mmputAsync();
    }
  }
}

/** Its bonds go, unless another group of the container had them first. */
async function unbindNewcomer(iommu: VfioIommu, group: VfioIommuGroup, { pasid }: VfioMm): Promise<void> {
  for (const device of group.devices) if (!sharedWithin(iommu, group, device)) await unbindDevice(iommu, device, pasid);
}

/** The patch: every device is bound before the second is refused, and the error path looks at how far it came (S-1). */
async function bindGroupAsPosted(iommu: VfioIommu, group: VfioIommuGroup, vfioMm: VfioMm): Promise<void> {
  const enabledHere = !group.svaEnabled;
  if (enabledHere) await enableGroup(iommu, group);
  let count = 0;
  try {
    for (const device of [...group.devices]) {
      if (count++ > 0) throw new IommuError("EINVAL", `group ${group.iommuGroup.id} has several devices`);
      vfioMm.pasid = await bindDevice(iommu, device, vfioMm);
    }
  } catch (error) {
    if (count > 1) for (const device of group.devices) await unbindDevice(iommu, device, vfioMm.pasid);
    if (enabledHere) await disableGroup(iommu, group);
    throw error;
  }
}
