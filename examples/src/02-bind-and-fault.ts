// You will see a process bound to a device with VFIO_IOMMU_BIND, and each page of it come to the device by a page request.
import { createPlatform, hex, type Tracer } from "@iommukit/core";
import { vtd } from "@iommukit/iommu-vtd";
import { accelerator } from "@iommukit/pci-device";
import { vfioType1 } from "@iommukit/vfio-type1";
import { main, type Print } from "./print.js";
import { execute, startProgram } from "./program.js";

const BDF = "0000:01:00.0";

/** The events of a page fault, there and back. */
function show(trace: Tracer, print: Print): void {
  trace.on("pri:requested", ({ unit, address, prgi }) => {
    if (unit === BDF) print(`  device asks for page ${hex(address)} (group ${prgi})`);
  });
  trace.on("mm:faulted", ({ result }) => print(`  kernel faults it in: ${result}`));
  trace.on("pri:answered", ({ prgi, code }) => print(`  response to group ${prgi}: ${code}`));
}

export async function example(print: Print): Promise<void> {
  const platform = await createPlatform({
    iommus: [vtd()],
    devices: [accelerator({ bdf: BDF })],
    services: [vfioType1()],
  });
  await platform.run(async () => {
    const program = await startProgram(platform, BDF);
    const { memory, container, accelerator: device } = program;
    const pasid = await container.bind();
    print(`BIND: PASID ${pasid}; a second BIND gives ${await container.bind()}`);
    await device.enableQueue(0, { pasid, blockOnFault: true });

    // Memory as malloc gives it: nothing pinned, nothing mapped for DMA, most of it not even there.
    const heap = await memory.mmap({ length: 4 * 4096 });
    await memory.write(heap, new TextEncoder().encode("shared"));
    show(platform.trace, print);
    print("MEMMOVE from a page that is there to one that nobody has touched:");
    const copy = {
      Opcode: "MEMMOVE",
      BlockOnFault: true,
      Source: heap,
      Destination: heap + 8192n,
      TransferSize: 6,
    } as const;
    const done = await execute(platform, program, heap + 12288n, copy);
    const bytes = new Uint8Array(6);
    await memory.read(heap + 8192n, bytes);
    print(`${done.Status}: the process reads "${new TextDecoder().decode(bytes)}"`);

    print("MEMFILL of an address that the process does not have:");
    const wild = { Opcode: "MEMFILL", BlockOnFault: true, Source: 0n, Destination: 0x1000n, TransferSize: 8 } as const;
    const failed = await execute(platform, program, heap + 12288n, wild);
    print(`${failed.Status} at ${hex(BigInt(failed.FaultAddress))}`);
    await container.unbind();
    print(`UNBIND; PASIDs in use: ${platform.sva.inUse().pasids}`);
  });
  print(`left behind: ${(await platform.close()).length}`);
}

await main(import.meta, example);
