// You will see what the same work costs behind each IOMMU, counted from the trace: 64 pages of a process checksummed
// twice, first cold, then with the translations in the device's cache.
import { createPlatform, type IommuPlugin, type TraceRecord } from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";
import { accelerator } from "@iommukit/pci-device";
import { vfioType1 } from "@iommukit/vfio-type1";
import { main, type Print } from "./print.js";
import { execute, startProgram } from "./program.js";

const BDF = "0000:01:00.0";
const PAGES = 64;
const ROWS: Readonly<Record<string, (record: TraceRecord) => boolean>> = {
  "ATC hits": (record) => record.name === "tlb:hit" && record.cache === "ATC",
  "translation requests": (record) => record.name === "ats:completed",
  "page requests": (record) => record.name === "pri:requested" && record.unit === BDF,
  "table reads": (record) => record.name === "table:read",
  commands: (record) => record.name === "command:consumed",
};

/** @returns one column: the counts of the cold and of the warm pass */
async function column(iommu: IommuPlugin): Promise<number[][]> {
  const platform = await createPlatform({
    iommus: [iommu],
    devices: [accelerator({ bdf: BDF })],
    services: [vfioType1()],
  });
  const passes: number[][] = [];
  let counts: number[] = [];
  platform.trace.subscribe((record) => {
    for (const [row, counted] of Object.values(ROWS).entries()) if (counted(record)) counts[row]++;
  });
  await platform.run(async () => {
    const program = await startProgram(platform, BDF);
    const pasid = await program.container.bind();
    await program.accelerator.enableQueue(0, { pasid, blockOnFault: true });
    const source = await program.memory.mmap({ length: (PAGES + 1) * 4096 });
    for (let pass = 0; pass < 2; pass++) {
      counts = Object.keys(ROWS).map(() => 0);
      const crc = { Opcode: "CRC32", BlockOnFault: true, Source: source, TransferSize: PAGES * 4096 } as const;
      await execute(platform, program, source + BigInt(PAGES * 4096), crc);
      passes.push([...counts]);
    }
  });
  await platform.close();
  return passes;
}

export async function example(print: Print): Promise<void> {
  const columns = [...(await column(smmuv3())), ...(await column(vtd()))];
  const line = (label: string, cells: readonly (string | number)[]) =>
    `${label.padEnd(22)}${cells.map((cell) => String(cell).padStart(14)).join("")}`;
  print(line("", ["smmuv3 cold", "warm", "vtd cold", "warm"]));
  for (const [row, label] of Object.keys(ROWS).entries())
    print(
      line(
        label,
        columns.map((cells) => cells[row]),
      ),
    );
}

await main(import.meta, example);
