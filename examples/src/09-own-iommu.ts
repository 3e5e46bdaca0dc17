// You will see an IOMMU of your own: its registers, its chip and its driver in 09-own-iommu/, composed with a device and VFIO
// that know nothing of it, and beside an SMMUv3 in one container.
import { createPlatform, isErrno } from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { accelerator } from "@iommukit/pci-device";
import { vfioType1 } from "@iommukit/vfio-type1";
import { plain } from "./09-own-iommu/plugin.js";
import { main, type Print } from "./print.js";
import { execute, startProgram } from "./program.js";

const BDF = "0000:01:00.0";
const OTHER = "0001:01:00.0";
const IOVA = 0x10_0000n;
const RECORD = 0x1fe0n;

export async function example(print: Print): Promise<void> {
  const platform = await createPlatform({
    iommus: [plain(), smmuv3()],
    devices: [BDF, OTHER].map((bdf) => accelerator({ bdf })),
    // Any device may send any message past this IOMMU: VFIO refuses that unless it is told to trust it.
    services: [vfioType1({ params: { allowUnsafeInterrupts: true } })],
  });
  platform.trace.on("domain:compared", ({ compatible, reason }) => {
    print(`  ${compatible ? "one domain for both" : "a domain of its own"}: ${reason}`);
  });
  await platform.run(async () => {
    const program = await startProgram(platform, BDF);
    const { memory, container, accelerator: device } = program;
    const buffer = await memory.mmap({ length: 8192 });
    await memory.write(buffer, new TextEncoder().encode("hello, device"));
    await container.mapDma({ iova: IOVA, vaddr: buffer, size: 8192 });
    await device.enableQueue(0, {});
    const booted = platform.kernel.log.length;

    const move = (Source: bigint) => {
      const copy = { Opcode: "MEMMOVE", Source, Destination: IOVA + 4096n, TransferSize: 13 } as const;
      return execute(platform, program, buffer + RECORD, copy, IOVA + RECORD);
    };
    print(`MEMMOVE: ${(await move(IOVA)).Status}`);
    const bytes = new Uint8Array(13);
    await memory.read(buffer + 4096n, bytes);
    print(`the buffer holds "${new TextDecoder().decode(bytes)}"`);
    print(`MEMMOVE from an IOVA that is not mapped: ${(await move(IOVA + 0x10_0000n)).Status}`);
    for (const line of platform.kernel.log.slice(booted)) print(`  dmesg: ${line}`);

    print("a device behind an SMMUv3 joins the container:");
    await container.attach(platform.device(OTHER).group?.id ?? -1);
    print("BIND, which this driver cannot do:");
    await container.bind().catch((error) => {
      if (!isErrno(error)) throw error;
      print(`  ${error.message}`);
    });
    print("UNMAP_DMA:");
    const quiet = platform.trace.on("cache:invalidated", ({ unit, cache, scope, entries }) => {
      print(`  ${unit}: ${entries} entries of the ${cache} forgotten, ${scope}`);
    });
    await container.unmapAll();
    quiet();
    await program.task.exit();
  });
  print(`left behind: ${(await platform.close()).length}`);
}

await main(import.meta, example);
