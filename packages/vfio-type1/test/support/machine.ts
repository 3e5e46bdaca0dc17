/** A platform with fake IOMMUs, PCI functions without behaviour, VFIO, and programs with real (simulated) memory. */
import {
  type AddressSpace,
  createPlatform,
  type DevicePlugin,
  type Errno,
  isErrno,
  type PciFunction,
  type Platform,
  type Task,
  type TraceRecord,
} from "@iommukit/core";
import { type FakeDomain, FakeIommu, type FakeIommuOps, FakePciFunction, fakeIommu } from "@iommukit/core/testing";
import { expect } from "vitest";
import { VfioContainer, type VfioOptions, vfioType1 } from "../../src/index.js";

export const PAGE = 4096n;

export interface MachineOptions extends VfioOptions {
  /** How many IOMMUs; the n-th is in front of segment n. */
  readonly iommus?: number;
  readonly devices?: readonly string[];
  readonly functions?: readonly PciFunction[];
  readonly bugs?: readonly string[];
}

export function pciPlugin(...functions: readonly PciFunction[]): DevicePlugin {
  return { name: "functions", segment: functions[0].segment, create: () => functions };
}

export const A = "0000:00:05.0";
export const B = "0000:00:06.0";

export async function machine(options: MachineOptions = {}) {
  const { iommus = 1, functions, bugs, ...vfio } = options;
  const bdfs = functions ? functions.map(({ bdf }) => bdf) : (options.devices ?? [A, B]);
  const platform = await createPlatform({
    iommus: Array.from({ length: iommus }, () => fakeIommu),
    devices: (functions ?? bdfs.map((bdf) => new FakePciFunction(bdf))).map((pci) => pciPlugin(pci)),
    variants: bugs,
    services: [vfioType1(vfio)],
  });
  const events: TraceRecord[] = [];
  platform.trace.subscribe((record) => {
    if (!record.name.startsWith("lock:")) events.push(record);
  });
  const ops = (n = 0): FakeIommuOps => {
    const iommu = platform.iommus[n];
    if (!(iommu instanceof FakeIommu)) throw new Error("not a fake");
    return iommu.ops;
  };
  return {
    platform,
    events,
    ops,
    kernel: platform.kernel,
    /** Runs a program in a task of its own. */
    run: <T>(body: (task: Task) => Promise<T>) => platform.run(() => body(platform.kernel.spawn({ name: "program" }))),
    group: (bdf = A) => groupOf(platform, bdf),
    domainOf: (bdf = A) => platform.device(bdf).group?.domain as FakeDomain,
    seen: (name: TraceRecord["name"]) => events.filter((event) => event.name === name),
  };
}

export type Machine = Awaited<ReturnType<typeof machine>>;

export function groupOf(platform: Platform, bdf: string): number {
  const { group } = platform.device(bdf);
  if (!group) throw new Error(`${bdf} has no group`);
  return group.id;
}

/** A container with the groups of those devices and a type1v2 IOMMU. */
export async function containerWith(
  m: Machine,
  task: Task,
  bdfs: readonly string[] = [A],
  type?: number,
): Promise<VfioContainer> {
  const container = await VfioContainer.open(task);
  for (const bdf of bdfs) await container.attach(m.group(bdf));
  await container.setIommu(type);
  return container;
}

/** `pages` pages of anonymous memory, touched. */
export async function memory(task: Task, pages: number): Promise<bigint> {
  const mm = task.mm as AddressSpace;
  const address = await mm.mmap({ length: pages * 4096, prot: "rw" });
  await mm.write(address, new Uint8Array(pages * 4096).fill(0x5a));
  return address;
}

/** What a system call refuses with: "EINVAL". */
export async function errnoOf(call: Promise<unknown>): Promise<Errno | "success"> {
  try {
    await call;
    return "success";
  } catch (error) {
    if (isErrno(error)) return error.code;
    throw error;
  }
}

/** Everything is closed and nothing has leaked. */
export async function closeClean(m: Machine): Promise<void> {
  expect(await m.platform.close()).toEqual([]);
}
