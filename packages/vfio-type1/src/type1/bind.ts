/** VFIO_IOMMU_BIND and VFIO_IOMMU_UNBIND with BIND_PROCESS (F27–F33): the order of the checks is the patch's. */
import { IommuError, type Kernel, type Mm, type Task, type UserPointer } from "@iommukit/core";
import { Bind, BindProcess, VFIO_IOMMU_BIND_PID, VFIO_IOMMU_BIND_PROCESS } from "../uapi/bind-structs.js";
import { decodeStruct, encodeStruct } from "../uapi/struct.js";
import { bindGroup, disableGroup, forget, unbindGroup } from "./bind-group.js";
import type { VfioIommuGroup } from "./domain.js";
import type { VfioIommu } from "./vfio-iommu.js";
import { VfioMm } from "./vfio-mm.js";

/** @throws IommuError EFAULT, EINVAL, ESRCH, EACCES; what a group refuses with, after everything has been unbound again */
export async function bindProcess(iommu: VfioIommu, kernel: Kernel, task: Task, arg: UserPointer): Promise<number> {
  const params = await copyParams(arg);
  const mm = await addressSpace(kernel, task, params);
  try {
    await iommu.lock.with(async () => {
      if (iommu.svaGroups().next().done) throw new IommuError("EINVAL", "the container has no group behind an IOMMU");
      const bound = iommu.mms.find((vfioMm) => vfioMm.mm === mm);
      if (bound) return answer(arg, params, bound.pasid);
      return bindAll(iommu, mm, (pasid) => answer(arg, params, pasid));
    });
  } finally {
    await mm.mmput();
  }
  return 0;
}

async function bindAll(iommu: VfioIommu, mm: Mm, reply: (pasid: number) => Promise<void>): Promise<void> {
  const vfioMm = new VfioMm(mm);
  const done: { readonly group: VfioIommuGroup; readonly enabledHere: boolean }[] = [];
  let listed = false;
  try {
    for (const group of [...iommu.svaGroups()]) {
      const enabledHere = !group.svaEnabled;
      await bindGroup(iommu, group, vfioMm);
      done.push({ group, enabledHere });
    }
    await iommu.mmLock.with(() => {
      if (!iommu.has("S-9")) mm.mmgrab();
      iommu.mms.unshift(vfioMm);
      listed = true;
    });
    await reply(vfioMm.pasid);
  } catch (error) {
    if (listed) await iommu.mmLock.with(() => forget(iommu, vfioMm));
    for (const { group, enabledHere } of done.reverse()) {
      await unbindGroup(iommu, group, vfioMm);
      if (enabledHere && !iommu.has("S-1")) await disableGroup(iommu, group);
    }
    throw error;
  }
}

/** By address space, never by PASID: the process may be gone and its PASID another's (F32, S-9). @throws IommuError ESRCH not bound */
export async function unbindProcess(iommu: VfioIommu, kernel: Kernel, task: Task, arg: UserPointer): Promise<number> {
  const mm = await addressSpace(kernel, task, await copyParams(arg));
  try {
    await iommu.lock.with(async () => {
      const vfioMm = iommu.mms.find((bound) => bound.mm === mm);
      if (!vfioMm) throw new IommuError("ESRCH", `${mm.owner} is not bound to the container`);
      for (const group of [...iommu.svaGroups()]) await unbindGroup(iommu, group, vfioMm);
      await iommu.mmLock.with(() => forget(iommu, vfioMm));
    });
  } finally {
    await mm.mmput();
  }
  return 0;
}

interface Params {
  readonly flags: number;
  readonly pid: number;
}

async function copyParams(arg: UserPointer): Promise<Params> {
  const head = decodeStruct(Bind, await arg.copyFrom(Bind.bytes));
  if (head.argsz < Bind.bytes) throw new IommuError("EINVAL", `argsz ${head.argsz} is less than ${Bind.bytes}`);
  if (head.flags !== VFIO_IOMMU_BIND_PROCESS)
    throw new IommuError("EINVAL", `flags 0x${head.flags.toString(16)}: only BIND_PROCESS (1) is defined`);
  const size = Bind.bytes + BindProcess.bytes;
  if (head.argsz < size) throw new IommuError("EINVAL", `argsz ${head.argsz} is less than ${size}`);
  const params = decodeStruct(BindProcess, await arg.copyFrom(BindProcess.bytes, Bind.bytes));
  if ((params.flags & ~VFIO_IOMMU_BIND_PID) !== 0)
    throw new IommuError("EINVAL", `flags 0x${params.flags.toString(16)}: only BIND_PID (1) is defined`);
  return { flags: params.flags, pid: params.pid | 0 };
}

async function answer(arg: UserPointer, { flags, pid }: Params, pasid: number): Promise<void> {
  await arg.copyTo(encodeStruct(BindProcess, { flags, pasid: pasid >>> 0, pid: pid >>> 0 }), Bind.bytes);
}

/** The caller's own address space, or that of a process that the caller may trace; with a user reference (F28). */
async function addressSpace(kernel: Kernel, task: Task, { flags, pid }: Params): Promise<Mm> {
  if ((flags & VFIO_IOMMU_BIND_PID) !== 0) return kernel.mmAccess(task, pid);
  if (!task.mm?.mmgetNotZero()) throw new IommuError("EINVAL", `task ${task.pid} has no address space`);
  return task.mm;
}
