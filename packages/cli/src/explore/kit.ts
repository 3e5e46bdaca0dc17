/** What scenarios are made of: machines with VFIO and a device, programs, and refusals that are as they should be. */
import {
  type AddressSpace,
  createPlatform,
  type Device,
  type IommuPlugin,
  isErrno,
  type Platform,
  type ServicePlugin,
  type Task,
} from "@iommukit/core";
import type { Case, Machine, MachineOptions, Scenario } from "@iommukit/explore";
import type { DmaOptions } from "@iommukit/pci-device";
import { VfioContainer, vfioType1 } from "@iommukit/vfio-type1";
import { type BackendName, EXPLORED_BACKENDS } from "./backends.js";
import { type DmaDevice, type DmaDeviceOptions, dmaDevice, dmaOf } from "./dma-device.js";

/** A scenario before it is known behind which IOMMU. */
export interface ScenarioDefinition {
  readonly name: string;
  readonly summary: string;
  readonly finds: Finds;
  readonly backends?: readonly BackendName[];
  readonly make: (backend: BackendName) => Pick<Scenario, "boot" | "prepare" | Settings>;
}

/**
 * Known bugs that a scenario finds, and behind which IOMMUs they are to be found; undefined: all of the scenario's. "S-4+S-1" is a
 * bug that only the other one makes reachable.
 */
export type Finds = Readonly<Record<string, readonly BackendName[] | undefined>>;

type Settings = "allocationsFail" | "timeLimit" | "oneShot";

export interface ScenarioSource<M extends Machine> extends Pick<Scenario, Settings> {
  readonly name: string;
  /** One sentence: who meets whom. */
  readonly summary: string;
  readonly finds: Finds;
  /** Behind which IOMMUs it makes sense; both when absent. */
  readonly backends?: readonly BackendName[];
  boot(backend: BackendName, options: MachineOptions): Promise<M>;
  prepare(machine: M): Promise<Case>;
}

export function scenario<M extends Machine>(source: ScenarioSource<M>): ScenarioDefinition {
  const { name, summary, finds, backends, allocationsFail, timeLimit, oneShot } = source;
  return {
    name,
    summary,
    finds,
    backends,
    make: (backend) => ({
      allocationsFail,
      timeLimit,
      oneShot,
      boot: (options) => source.boot(backend, options),
      // The explorer prepares a case on the machine that `boot` has made.
      prepare: (machine) => source.prepare(machine as M),
    }),
  };
}

const PCI_COMMAND = 4;
const MEMORY_AND_BUS_MASTER = 6;

export const BDF = "0000:01:00.0";

export const OTHER_BDF = "0000:02:00.0";

export interface DmaMachine {
  readonly platform: Platform;
  readonly device: Device;
  readonly dma: DmaDevice;
}

export interface DmaMachineOptions {
  readonly devices?: readonly DmaDeviceOptions[];
  /** An IOMMU that differs from the backend's usual one. */
  readonly iommu?: IommuPlugin;
  readonly services?: readonly ServicePlugin[];
  /** The series' SVA core when absent. */
  readonly sva?: "seed" | "mainline";
}

/** A machine with DMA devices that kernel drivers use; `device` is the first. */
export async function dmaMachine(
  backend: BackendName,
  options: MachineOptions,
  { devices = [{ bdf: BDF }], iommu = EXPLORED_BACKENDS[backend](), services = [], sva }: DmaMachineOptions = {},
): Promise<DmaMachine> {
  const platform = await createPlatform({
    ...options,
    sva,
    iommus: [iommu],
    devices: devices.map(dmaDevice),
    services,
  });
  enable({ platform });
  const device = platform.device(devices[0].bdf);
  return { platform, device, dma: dmaOf(device) };
}

/** Lets devices send: VFIO takes that away from those that it opens. */
export function enable({ platform }: Machine): void {
  for (const { pci } of platform.devices.values()) pci.writeConfig(PCI_COMMAND, 2, MEMORY_AND_BUS_MASTER);
}

/** The same with VFIO. */
export function vfioMachine(
  backend: BackendName,
  options: MachineOptions,
  more: DmaMachineOptions = {},
): Promise<DmaMachine> {
  return dmaMachine(backend, options, { ...more, services: [vfioType1()] });
}

/** The first two devices of a machine, for scenarios with two. */
export const TWO_DEVICES: readonly DmaDeviceOptions[] = [{ bdf: BDF }, { bdf: OTHER_BDF }];

/** A machine with VFIO and two devices. */
export function vfioPair(backend: BackendName, options: MachineOptions): Promise<DmaMachine> {
  return vfioMachine(backend, options, { devices: TWO_DEVICES });
}

export interface Program {
  readonly task: Task;
  readonly memory: AddressSpace;
}

export function program({ platform }: DmaMachine, name: string): Program {
  const task = platform.kernel.spawn({ name });
  return { task, memory: task.memory };
}

/** A container of `task` with the groups of those devices (the first one when absent) and an IOMMU set. */
export async function container(
  m: DmaMachine,
  task: Task,
  devices: readonly Device[] = [m.device],
): Promise<VfioContainer> {
  const opened = await VfioContainer.open(task);
  for (const { group } of devices) await opened.attach(group?.id ?? -1);
  await opened.setIommu();
  enable(m);
  return opened;
}

/** A container of `task` with one group, by id, and an IOMMU set. */
export async function groupContainer(task: Task, group: number): Promise<VfioContainer> {
  const opened = await VfioContainer.open(task);
  await opened.attach(group);
  await opened.setIommu();
  return opened;
}

/** Devices on which SVA is initialised, as sentences. */
export function initialised({ platform }: DmaMachine): readonly string[] {
  return [...platform.devices.values()]
    .filter(({ svaParam }) => svaParam !== undefined)
    .map(({ name }) => `SVA is still initialised on ${name}`);
}

/** Collects the faults that the IOMMU records from now on. @returns sentences about them */
export function faultsOf({ platform }: DmaMachine): () => readonly string[] {
  const faults: string[] = [];
  const stop = platform.trace.on("fault:recorded", ({ fault, rid, pasid, address }) => {
    faults.push(
      `${fault} of requester 0x${rid.toString(16)} with PASID ${pasid} at 0x${address.toString(16)} was recorded`,
    );
  });
  return () => {
    stop();
    return faults;
  };
}

/** A write of 8 bytes. @returns a DmaStatus */
export async function store(
  { dma }: DmaDevice,
  pasid: number,
  address: bigint,
  options: DmaOptions = {},
): Promise<number> {
  return (await dma.write(pasid, address, new Uint8Array(8), options)).status;
}

/** A write that does not ask for pages. */
export function probe(device: DmaDevice, pasid: number, address: bigint): Promise<number> {
  return store(device, pasid, address, { onFault: "report" });
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
