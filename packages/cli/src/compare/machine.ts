/**
 * One backend's machine with the program that uses it: an IOMMU, an accelerator, and a VFIO program that binds processes, puts
 * descriptors into the accelerator and reads completion records. The records lie in the program's own memory, mapped with
 * MAP_DMA: nothing is written into a bound process but what a descriptor says.
 */
import {
  type AddressSpace,
  type AddressSpaceOptions,
  createPlatform,
  IommuError,
  type IommuPlugin,
  type Platform,
  type ServicePlugin,
  type TraceRecord,
} from "@iommukit/core";
import {
  AcceleratorClient,
  type AcceleratorOptions,
  accelerator,
  type DescriptorFields,
  decodeCompletion,
  encodeDescriptor,
  type WorkQueueConfig,
} from "@iommukit/pci-device";
import { VfioContainer, vfioType1 } from "@iommukit/vfio-type1";
import { UsageError } from "../errors.js";
import { type Counts, count, newCounts } from "./counts.js";
import { FaultLatencies } from "./fault-latencies.js";

export const BDF = "0000:01:00.0";
/** Where the completion records are for the device: an IOVA, no PASID. */
const RECORDS_IOVA = 0x10_0000n;
const RECORD_BYTES = 32;
export const RECORDS = 128;
const HUGE_PAGE = 1 << 21;
/** Virtual nanoseconds between two looks at a completion record. */
const POLL = 2_000;

export type Completion = ReturnType<typeof decodeCompletion>;

export interface MachineOptions {
  readonly iommu: IommuPlugin;
  readonly device?: Omit<AcceleratorOptions, "bdf">;
  readonly mm?: AddressSpaceOptions | undefined;
  /** Bytes of the smallest IOMMU page, when that is larger than the CPU's. */
  readonly granule?: number | undefined;
  readonly services?: readonly ServicePlugin[];
  readonly listener?: ((record: TraceRecord) => void) | undefined;
}

/** The VFIO program's side; there once the machine has been set up. */
interface Program {
  readonly memory: AddressSpace;
  readonly records: bigint;
  readonly container: VfioContainer;
  readonly client: AcceleratorClient;
}

export class Machine {
  readonly counts: Counts = newCounts();
  readonly latencies = new FaultLatencies(BDF);
  #program: Program | undefined;
  #next = 0;
  #stopCounting = () => {};

  private constructor(
    readonly platform: Platform,
    readonly granule: number,
  ) {}

  static async start({ iommu, device, mm, services = [], listener, granule = 0 }: MachineOptions): Promise<Machine> {
    const platform = await createPlatform({
      iommus: [iommu],
      devices: [accelerator({ ...device, bdf: BDF })],
      services: [vfioType1(), ...services],
      mm,
    });
    if (listener) platform.trace.subscribe(listener);
    return new Machine(platform, granule);
  }

  /** Inside of the platform: the program opens its container and the device. */
  async setUp(): Promise<void> {
    const task = this.platform.kernel.spawn({ name: "compare" });
    const container = await VfioContainer.open(task);
    const group = await container.attach(this.platform.device(BDF).group?.id ?? 0);
    await container.setIommu();
    const device = await group.device(BDF);
    const { memory } = task;
    const size = Math.max(RECORDS * RECORD_BYTES, this.granule);
    const records = await contiguous(memory, size, this.granule);
    await container.mapDma({ iova: RECORDS_IOVA, vaddr: records, size });
    this.#program = { memory, records, container, client: new AcceleratorClient(device) };
    await device.enableBusMaster();
  }

  get program(): Program {
    if (this.#program === undefined) throw new Error("the machine is not set up");
    return this.#program;
  }

  /** Inside of the platform. @returns the PASID. @throws UsageError the backend cannot share address spaces */
  async bind(pid: number, label: string): Promise<number> {
    try {
      return await this.program.container.bind({ pid });
    } catch (error) {
      if (error instanceof IommuError) throw new UsageError(`${label}: ${error.message}`, { cause: error });
      throw error;
    }
  }

  /** Memory of the program for MAP_DMA; as far as the IOMMU's pages need it in one piece physically. */
  buffer(length: number): Promise<bigint> {
    return contiguous(this.program.memory, length, this.granule);
  }

  /** Inside of the platform, after the last bind: the device is enabled, and counting begins. */
  async enable(queues: readonly WorkQueueConfig[]): Promise<void> {
    const { client } = this.program;
    await client.enable();
    for (const [queue, config] of queues.entries())
      await client.enableQueue(queue, { blockOnFault: true, untaggedCompletion: true, ...config });
    const stopCounts = count(this.platform.trace, this.counts, BDF);
    const stopLatencies = this.latencies.listen(this.platform.trace);
    this.#stopCounting = () => {
      stopCounts();
      stopLatencies();
    };
  }

  /** Inside of the platform: hands a descriptor to the device. @returns where its completion record will be */
  async submit(fields: DescriptorFields, queue = 0): Promise<number> {
    const { memory, records, client } = this.program;
    const slot = this.#next++ % RECORDS;
    await memory.write(records + BigInt(slot * RECORD_BYTES), new Uint8Array(RECORD_BYTES));
    const descriptor = encodeDescriptor({
      BlockOnFault: true,
      CompletionRecordAddressValid: true,
      RequestCompletionRecord: true,
      CompletionRecordAddress: RECORDS_IOVA + BigInt(slot * RECORD_BYTES),
      ...fields,
    });
    // A shared queue that is full says so; a dedicated one never is: no more descriptors than records are under way.
    while (!(await client.submit(queue, descriptor))) await this.platform.scheduler.sleep(POLL);
    return slot;
  }

  /** The record of a slot; undefined while the device works. */
  async poll(slot: number): Promise<Completion | undefined> {
    const { memory, records } = this.program;
    const bytes = new Uint8Array(RECORD_BYTES);
    await memory.read(records + BigInt(slot * RECORD_BYTES), bytes);
    return bytes[0] === 0 ? undefined : decodeCompletion(bytes);
  }

  async wait(slot: number): Promise<Completion> {
    for (;;) {
      const record = await this.poll(slot);
      if (record) return record;
      await this.platform.scheduler.sleep(POLL);
    }
  }

  /** Inside of the platform: submits and waits. */
  async execute(fields: DescriptorFields, queue = 0): Promise<Completion> {
    return this.wait(await this.submit(fields, queue));
  }

  /** Bytes of RAM in tables, by owner: "smmuv3 CD table" → 4096. */
  tableBytes(): Record<string, number> {
    const bytes: Record<string, number> = {};
    for (const [owner, pages] of this.platform.pages.usage()) {
      if (owner.includes("table") || owner.includes("directory")) bytes[owner] = pages * 4096;
    }
    return bytes;
  }

  /** @returns what was left behind */
  async close(): Promise<readonly string[]> {
    this.#stopCounting();
    return this.platform.close();
  }
}

async function contiguous(memory: AddressSpace, length: number, granule: number): Promise<bigint> {
  if (granule === 0) return memory.mmap({ length });
  const whole = Math.ceil(length / HUGE_PAGE) * HUGE_PAGE;
  const address = await memory.mmap({ length: whole });
  await memory.madvise(address, whole, "hugepage");
  return address;
}
