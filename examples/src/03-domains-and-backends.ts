// You will see VFIO's compatibility check: two devices share a domain, a third behind another IOMMU gets its own, and one
// MAP and one BIND serve all of them.
import { createPlatform } from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";
import { accelerator } from "@iommukit/pci-device";
import { VfioContainer, vfioType1 } from "@iommukit/vfio-type1";
import { main, type Print } from "./print.js";

/** The first two are behind the SMMU (segment 0), the third behind VT-d (segment 1). */
const DEVICES = ["0000:01:00.0", "0000:02:00.0", "0001:01:00.0"];

export async function example(print: Print): Promise<void> {
  const platform = await createPlatform({
    iommus: [smmuv3(), vtd()],
    devices: DEVICES.map((bdf) => accelerator({ bdf })),
    services: [vfioType1()],
  });
  platform.trace.on("domain:compared", ({ group, domain, compatible, reason }) => {
    print(`  group ${group} and domain ${domain}: ${compatible ? "shared" : "not shared"}, ${reason}`);
  });
  platform.trace.on("iommu:mapped", ({ unit, domain, iova, size }) => {
    print(`  ${unit} domain ${domain}: 0x${iova.toString(16)} +0x${size.toString(16)}`);
  });
  platform.trace.on("bond:created", ({ device, pasid }) => print(`  ${device}: PASID ${pasid}`));
  await platform.run(async () => {
    const task = platform.kernel.spawn({ name: "program" });
    const container = await VfioContainer.open(task);
    for (const [index, bdf] of DEVICES.entries()) {
      print(`attach ${bdf} (${platform.device(bdf).iommu?.name})`);
      await container.attach(platform.device(bdf).group?.id ?? -1);
      if (index === 0) await container.setIommu();
    }
    print("MAP_DMA, once for each domain:");
    const buffer = await task.memory.mmap({ length: 4096 });
    await container.mapDma({ iova: 0x4000_0000n, vaddr: buffer, size: 4096 });
    print("BIND, once for each device, one PASID:");
    await container.bind();
  });
  print(`left behind: ${(await platform.close()).length}`);
}

await main(import.meta, example);
