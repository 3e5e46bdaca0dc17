/**
 * One backend's machine with the program that uses it: an IOMMU, an accelerator, and a VFIO program that binds the
 * subject, puts descriptors into the accelerator and reads completion records. The records lie in the program's own
 * memory, mapped with MAP_DMA: nothing is written into the subject but what a descriptor says.
 */
import { type AddressSpace, createPlatform, type IommuPlugin, type Platform, type TraceRecord } from "@iommukit/core";
import {
  AcceleratorClient,
  accelerator,
  type DescriptorFields,
  decodeCompletion,
  encodeDescriptor,
} from "@iommukit/pci-device";
import { VfioContainer, type VfioDevice, vfioType1 } from "@iommukit/vfio-type1";
import { type Counts, count, newCounts } from "./counts.js";
import type { Subject, SubjectSource } from "./subject.js";

const BDF = "0000:01:00.0";
const QUEUE = 0;
/** Where the completion records are for the device: an IOVA, no PASID. */
const RECORDS_IOVA = 0x10_0000n;
const RECORD_BYTES = 32;
const RECORDS = 128;
/** Virtual nanoseconds between two looks at a completion record. */
const POLL = 2_000;

export type Completion = ReturnType<typeof decodeCompletion>;

export class BackendRun {
  readonly counts: Counts = newCounts();
  #pasid = 0;
  #next = 0;
  #stopCounting = () => {};

  private constructor(
    readonly name: string,
    readonly platform: Platform,
    readonly subject: Subject,
    private readonly memory: AddressSpace,
    private readonly records: bigint,
    private readonly container: VfioContainer,
    private readonly client: AcceleratorClient,
  ) {}

  static async start(
    name: string,
    iommu: IommuPlugin,
    source: SubjectSource,
    index: number,
    listener?: (record: TraceRecord) => void,
  ): Promise<BackendRun> {
    const platform = await createPlatform({
      iommus: [iommu],
      devices: [accelerator({ bdf: BDF })],
      services: [vfioType1(), ...source.services()],
    });
    if (listener) platform.trace.subscribe(listener);
    const subject = await source.on(platform, index);
    return platform.run(async () => {
      const task = platform.kernel.spawn({ name: "compare" });
      const container = await VfioContainer.open(task);
      const group = await container.attach(platform.device(BDF).group?.id ?? 0);
      await container.setIommu();
      const device = await group.device(BDF);
      const { memory } = task;
      const records = await memory.mmap({ length: RECORDS * RECORD_BYTES });
      await container.mapDma({ iova: RECORDS_IOVA, vaddr: records, size: RECORDS * RECORD_BYTES });
      const client = new AcceleratorClient(device);
      const run = new BackendRun(name, platform, subject, memory, records, container, client);
      await run.#bind(device);
      return run;
    }, "set up");
  }

  async #bind(device: VfioDevice): Promise<void> {
    await device.enableBusMaster();
    this.#pasid = await this.container.bind({ pid: this.subject.pid });
    await this.client.enable();
    const config = { size: RECORDS, pasid: this.#pasid, blockOnFault: true, untaggedCompletion: true };
    await this.client.enableQueue(QUEUE, config);
    this.#stopCounting = count(this.platform.trace, this.counts, BDF);
  }

  get pasid(): number {
    return this.#pasid;
  }

  /** Inside of the platform: hands a descriptor to the device. @returns where its completion record will be */
  async submit(fields: DescriptorFields): Promise<number> {
    const slot = this.#next++ % RECORDS;
    await this.memory.write(this.records + BigInt(slot * RECORD_BYTES), new Uint8Array(RECORD_BYTES));
    await this.client.submit(
      QUEUE,
      encodeDescriptor({
        BlockOnFault: true,
        CompletionRecordAddressValid: true,
        RequestCompletionRecord: true,
        CompletionRecordAddress: RECORDS_IOVA + BigInt(slot * RECORD_BYTES),
        ...fields,
      }),
    );
    return slot;
  }

  /** The record of a slot; undefined while the device works. */
  async poll(slot: number): Promise<Completion | undefined> {
    const bytes = new Uint8Array(RECORD_BYTES);
    await this.memory.read(this.records + BigInt(slot * RECORD_BYTES), bytes);
    return bytes[0] === 0 ? undefined : decodeCompletion(bytes);
  }

  /** Inside of the platform: submits and waits. */
  async execute(fields: DescriptorFields): Promise<Completion> {
    const slot = await this.submit(fields);
    for (;;) {
      const record = await this.poll(slot);
      if (record) return record;
      await this.platform.scheduler.sleep(POLL);
    }
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
