/** A scheduler, a kernel, an SVA core and devices behind fake IOMMUs: what the tests of this layer run on. */
import {
  AddressDecoder,
  AddressSpaces,
  Device,
  FirstFitPages,
  Groups,
  IOMMU_SVA_FEAT_IOPF,
  Kernel,
  type MmExitHandler,
  SlabMemory,
  SvaCore,
  type TraceRecord,
  Tracer,
  VirtualTimeScheduler,
  variants,
} from "../../src/index.js";
import { FakeIommu, FakePciFunction } from "../../src/testing/index.js";
import { FakeMm } from "./fake-mm.js";

export const IOPF = IOMMU_SVA_FEAT_IOPF;

interface SvaDeviceOptions {
  readonly mmExit?: MmExitHandler;
  readonly behind?: FakeIommu;
  readonly features?: number;
  readonly maxPasid?: number;
}

export function machine<S extends SvaCore = SvaCore>(
  bugs: readonly string[] = [],
  Core: new (...args: ConstructorParameters<typeof SvaCore>) => S = SvaCore as never,
) {
  const scheduler = new VirtualTimeScheduler();
  const trace = new Tracer(() => scheduler.now);
  const events: TraceRecord[] = [];
  trace.subscribe((record) => {
    if (!record.name.startsWith("lock:")) events.push(record);
  });
  const memory = new SlabMemory([{ base: 0, size: 0x10_0000 }]);
  const pages = new FirstFitPages(memory, memory.regions);
  const mms = new AddressSpaces(memory, new AddressDecoder(memory), pages, scheduler, trace);
  const kernel = new Kernel(scheduler, trace, mms);
  const sva = new Core(scheduler, trace, kernel, variants(bugs));
  const groups = new Groups(kernel, "dma", variants(bugs));
  const iommu = new FakeIommu(scheduler);

  const newDevice = (name: string, behind = iommu) => {
    const device = new Device(name, 0, new FakePciFunction(name));
    device.iommu = behind;
    return device;
  };

  /** A device in a group of its own. */
  const device = async (name = "0000:01:00.0", behind = iommu) => {
    const added = newDevice(name, behind);
    await groups.add(added);
    behind.ops.calls.length = 0;
    return added;
  };

  /** The same, with SVA initialised. */
  const svaDevice = async (name = "0000:01:00.0", options: SvaDeviceOptions = {}) => {
    const { mmExit, behind = iommu, features = IOPF, maxPasid = 0 } = options;
    const added = await device(name, behind);
    await sva.iommuSvaDeviceInit(added, features, maxPasid, mmExit);
    behind.ops.calls.length = 0;
    return added;
  };

  return {
    scheduler,
    trace,
    events,
    kernel,
    sva,
    groups,
    iommu,
    ops: iommu.ops,
    newDevice,
    device,
    svaDevice,
    run: <T>(body: () => Promise<T>) => scheduler.run(body),
    mm: (owner?: string) => new FakeMm(scheduler, owner),
    seen: (name: TraceRecord["name"]) => events.filter((event) => event.name === name),
  };
}

export type Machine = ReturnType<typeof machine>;
