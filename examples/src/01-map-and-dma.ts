// You will see a program map two pages for a device, the device copy between them, and a fault where nothing is mapped.
import { createPlatform } from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { accelerator } from "@iommukit/pci-device";
import { vfioType1 } from "@iommukit/vfio-type1";
import { main, type Print } from "./print.js";
import { execute, startProgram } from "./program.js";

const BDF = "0000:01:00.0";
const IOVA = 0x10_0000n;

export async function example(print: Print): Promise<void> {
  const platform = await createPlatform({
    iommus: [smmuv3()],
    devices: [accelerator({ bdf: BDF, ats: null, pri: null, pasid: null })],
    services: [vfioType1()],
  });
  await platform.run(async () => {
    const program = await startProgram(platform, BDF);
    const { memory, container } = program;

    const buffer = await memory.mmap({ length: 8192 });
    await memory.write(buffer, new TextEncoder().encode("hello, device"));
    await container.mapDma({ iova: IOVA, vaddr: buffer, size: 8192 });
    const booted = platform.kernel.log.length;
    print(`MAP_DMA iova 0x${IOVA.toString(16)} size 0x2000`);

    // The queue has no PASID: these are plain IOVAs.
    await program.accelerator.enableQueue(0, {});
    const record = buffer + 8192n - 32n;
    const copy = { Opcode: "MEMMOVE", Source: IOVA, Destination: IOVA + 4096n, TransferSize: 13 } as const;
    const done = await execute(platform, program, record, copy, IOVA + 8192n - 32n);
    const bytes = new Uint8Array(13);
    await memory.read(buffer + 4096n, bytes);
    print(`MEMMOVE ${done.Status}: "${new TextDecoder().decode(bytes)}"`);

    const beyond = { ...copy, Source: IOVA + 0x10_0000n };
    const failed = await execute(platform, program, record, beyond, IOVA + 8192n - 32n);
    print(`MEMMOVE from an IOVA that is not mapped: ${failed.Status} at 0x${failed.FaultAddress.toString(16)}`);
    await platform.scheduler.idle();
    for (const line of platform.kernel.log.slice(booted)) print(`dmesg: ${line}`);

    print(`UNMAP_DMA gave back 0x${(await container.unmapAll()).toString(16)} bytes`);
  });
  print(`left behind: ${(await platform.close()).length}`);
}

await main(import.meta, example);
