/** What scenarios are made of: machines with VFIO and a device, programs, and refusals that are as they should be. */
import { type AddressSpace, createPlatform, type Device, isErrno, type Platform, type Task } from "@iommukit/core";
import type { Case, Machine, MachineOptions, Scenario } from "@iommukit/explore";
import { VfioContainer, vfioType1 } from "@iommukit/vfio-type1";
import { type BackendName, EXPLORED_BACKENDS } from "./backends.js";
import { type DmaDevice, type DmaDeviceOptions, dmaDevice, dmaOf } from "./dma-device.js";

/** A scenario before it is known behind which IOMMU. */
export interface ScenarioDefinition {
  readonly name: string;
  readonly summary: string;
  readonly finds: Finds;
  readonly backends?: readonly BackendName[];
  readonly make: (backend: BackendName) => Pick<Scenario, "boot" | "prepare" | "allocationsFail" | "timeLimit">;
}

/** Known bugs that a scenario finds, and behind which IOMMUs they are to be found; undefined: all of the scenario's. */
export type Finds = Readonly<Record<string, readonly BackendName[] | undefined>>;

export interface ScenarioSource<M extends Machine> {
  readonly name: string;
  /** One sentence: who meets whom. */
  readonly summary: string;
  readonly finds: Finds;
  /** Behind which IOMMUs it makes sense; both when absent. */
  readonly backends?: readonly BackendName[];
  readonly allocationsFail?: boolean;
  readonly timeLimit?: number;
  boot(backend: BackendName, options: MachineOptions): Promise<M>;
  prepare(machine: M): Promise<Case>;
}

export function scenario<M extends Machine>(source: ScenarioSource<M>): ScenarioDefinition {
  const { name, summary, finds, backends, allocationsFail, timeLimit } = source;
  return {
    name,
    summary,
    finds,
    backends,
    make: (backend) => ({
      allocationsFail,
      timeLimit,
      boot: (options) => source.boot(backend, options),
      // The explorer prepares a case on the machine that `boot` has made.
      prepare: (machine) => source.prepare(machine as M),
    }),
  };
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
