/** What every VFIO program does first: container, group, IOMMU type, device. The rest of an example is its own idea. */
import type { Platform } from "@iommukit/core";
import { AcceleratorClient, type DescriptorFields, decodeCompletion, encodeDescriptor } from "@iommukit/pci-device";
import { VfioContainer } from "@iommukit/vfio-type1";

export async function startProgram(platform: Platform, bdf: string) {
  const task = platform.kernel.spawn({ name: "program" });
  const { memory } = task;
  const container = await VfioContainer.open(task);
  const group = await container.attach(platform.device(bdf).group?.id ?? 0);
  await container.setIommu();
  const device = await group.device(bdf);
  await device.enableBusMaster();
  const accelerator = new AcceleratorClient(device);
  await accelerator.enable();
  return { task, memory, container, group, device, accelerator };
}

export type Program = Awaited<ReturnType<typeof startProgram>>;

/** Submits a descriptor to queue 0 and waits for its completion record at `record`, an address of the program's memory. */
export async function execute(
  platform: Platform,
  program: Program,
  record: bigint,
  fields: DescriptorFields,
  iova = record,
) {
  await program.memory.write(record, new Uint8Array(32));
  const where = { CompletionRecordAddress: iova, CompletionRecordAddressValid: true, RequestCompletionRecord: true };
  await program.accelerator.submit(0, encodeDescriptor({ ...where, ...fields }));
  for (;;) {
    const bytes = new Uint8Array(32);
    await program.memory.read(record, bytes);
    if (bytes[0] !== 0) return decodeCompletion(bytes);
    await platform.scheduler.sleep(1000);
  }
}
