/** What scenarios are made of: machines with VFIO and a device, programs, and refusals that are as they should be. */
import { type AddressSpace, createPlatform, type Device, isErrno, type Platform, type Task } from "@iommukit/core";
import type { MachineOptions, Scenario } from "@iommukit/explore";
import { VfioContainer, vfioType1 } from "@iommukit/vfio-type1";
import { type BackendName, EXPLORED_BACKENDS } from "./backends.js";
import { type DmaDevice, type DmaDeviceOptions, dmaDevice, dmaOf } from "./dma-device.js";

/** A scenario before it is known behind which IOMMU. */
export interface ScenarioDefinition {
  readonly name: string;
  /** One sentence: who meets whom. */
  readonly summary: string;
  /** Known bugs that it finds, and behind which IOMMUs they are to be found; both when absent. */
  readonly finds: Readonly<Record<string, readonly BackendName[] | undefined>>;
  /** Behind which IOMMUs it makes sense; both when absent. */
  readonly backends?: readonly BackendName[];
  readonly make: (backend: BackendName) => Pick<Scenario, "boot" | "prepare" | "allocationsFail" | "timeLimit">;
}

export const BDF = "0000:01:00.0";

export interface VfioMachine {
  readonly platform: Platform;
  readonly device: Device;
  readonly dma: DmaDevice;
}

export interface VfioMachineOptions {
  readonly devices?: readonly DmaDeviceOptions[];
  readonly sva?: "seed" | "mainline";
}

/** A machine with VFIO and one device or more; `device` is the first. */
export async function vfioMachine(
  backend: BackendName,
  options: MachineOptions,
  { devices = [{ bdf: BDF }], sva }: VfioMachineOptions = {},
): Promise<VfioMachine> {
  const platform = await createPlatform({
    ...options,
    sva,
    iommus: [EXPLORED_BACKENDS[backend]()],
    devices: devices.map(dmaDevice),
    services: [vfioType1()],
  });
  const device = platform.device(devices[0].bdf);
  return { platform, device, dma: dmaOf(device) };
}

export interface Program {
  readonly task: Task;
  readonly memory: AddressSpace;
}

export function program({ platform }: VfioMachine, name: string): Program {
  const task = platform.kernel.spawn({ name });
  return { task, memory: task.memory };
}

/** A container of `task` with the device's group in it and an IOMMU set. */
export async function container({ device }: VfioMachine, task: Task): Promise<VfioContainer> {
  const opened = await VfioContainer.open(task);
  await opened.attach(device.group?.id ?? -1);
  await opened.setIommu();
  return opened;
}

/** For calls that may be refused, because somebody else was faster. @returns undefined when it was */
export async function perhaps<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (!isErrno(error)) throw error;
    return undefined;
  }
}
