// You will see the same program behind both IOMMUs: the argument of `run` is the only line that differs. What the driver
// left in RAM for the process is decoded with the field table of each architecture.
import { createPlatform, explainFields, hex, type IommuPlugin } from "@iommukit/core";
import { CD, smmuv3 } from "@iommukit/iommu-smmuv3";
import { PASID_ENTRY, vtd } from "@iommukit/iommu-vtd";
import { accelerator } from "@iommukit/pci-device";
import { vfioType1 } from "@iommukit/vfio-type1";
import { main, type Print } from "./print.js";
import { execute, startProgram } from "./program.js";

const BDF = "0000:01:00.0";
/** Fields worth reading: where the process's page table is and who it belongs to. */
const FIELDS = ["V", "P", "ASID", "DID", "T0SZ", "FSPM", "PGTT", "TTB0", "FSPTPTR", "S", "R"];

async function run(iommu: IommuPlugin, print: Print): Promise<void> {
  const platform = await createPlatform({
    iommus: [iommu],
    devices: [accelerator({ bdf: BDF })],
    services: [vfioType1()],
  });
  const entry = iommu.name === "vtd" ? PASID_ENTRY : CD;
  let address = 0;
  await platform.run(async () => {
    const program = await startProgram(platform, BDF);
    // The last table entry that the chip reads before the page table is the process's.
    platform.trace.on("table:read", (read) => {
      if (read.table === "CD" || read.table === "pasid") address = read.address;
    });
    const pasid = await program.container.bind();
    await program.accelerator.enableQueue(0, { pasid, blockOnFault: true });
    const memory = await program.memory.mmap({ length: 8192 });
    const crc = { Opcode: "CRC32", BlockOnFault: true, Source: memory, TransferSize: 4096 } as const;
    const done = await execute(platform, program, memory + 4096n, crc);
    print(`${iommu.name}: CRC32 of a page of zeros is ${hex(BigInt(done.OperationResult), 8)}`);
    const root = hex(program.memory.pageTable(iommu.name === "vtd" ? "x86-64" : "vmsav8-64").root);
    const words = Int32Array.from({ length: entry.words }, (_, i) => platform.memory.load32(address + 4 * i));
    for (const { name, bits, value, meaning } of explainFields(entry, words)) {
      const shown = value === root ? "root of the process's own page table" : value;
      if (FIELDS.includes(name)) print(`  ${name}[${bits}] = ${shown}  (${meaning})`);
    }
  });
  print(`  left behind: ${(await platform.close()).length}`);
}

export async function example(print: Print): Promise<void> {
  await run(smmuv3(), print);
  await run(vtd(), print);
}

await main(import.meta, example);
