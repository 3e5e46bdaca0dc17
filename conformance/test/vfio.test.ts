import type { TranscriptHeader } from "@iommukit/cli/machines";
import { type AddressSpace, createPlatform, EventFd, type IommuPlugin, O, OpenFile } from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";
import { edu } from "@iommukit/pci-device";
import { PciIrq, VfioContainer, vfioType1 } from "@iommukit/vfio-type1";
import { describe, expect, it } from "vitest";
import { loadFile } from "../src/load.js";
import { Report } from "../src/report.js";
import { run } from "../src/runners/vfio.js";

const VECTORS = new URL("../vectors/vfio/", import.meta.url).pathname;

async function judge(name: string, change: (records: unknown[]) => unknown[] = (records) => records) {
  const lines: string[] = [];
  const report = new Report((line) => lines.push(line));
  const file = loadFile(`${VECTORS}${name}`);
  await run([{ ...file, records: change([...file.records]) }], report);
  return { report, lines };
}

describe("a recorded transcript", () => {
  it.each([
    ["6.12.117-amd64-intel-cm39-faults.jsonl.gz", 231],
    ["6.12.117-arm64-smmuv3-faults.jsonl.gz", 230],
    ["6.12.117-amd64-noiommu.jsonl.gz", 855],
    ["6.1.192-amd64-intel-cm39-faults.jsonl.gz", 231],
    ["6.1.192-amd64-intel-noir.jsonl.gz", 95],
    ["6.1.192-amd64-intel-noir-unsafe.jsonl.gz", 95],
    ["6.1.192-amd64-intel-pt.jsonl.gz", 95],
    ["6.12.117-amd64-intel-noir-unsafe.jsonl.gz", 95],
    ["7.3.4-amd64-intel-cm39-faults.jsonl.gz", 231],
    ["7.3.4-arm64-smmuv3-faults.jsonl.gz", 230],
  ])("%s is answered line by line", async (name, lines) => {
    const { report } = await judge(name);
    expect([report.passed, report.failed]).toEqual([lines, 0]);
  });

  it("is compared: another recorded answer is a difference", async () => {
    const { report, lines } = await judge("6.12.117-amd64-noiommu.jsonl.gz", (records) =>
      records.map((record) => {
        const step = record as { scenario?: string; step?: number };
        return step.scenario === "container.no_group" && step.step === 1 ? { ...step, ret: 7 } : record;
      }),
    );
    expect(report.failed).toBe(1);
    expect(lines[0]).toMatch(/container\.no_group step 1 VFIO_GET_API_VERSION: ret is 0, the kernel gave 7/);
  });

  it("of a machine without a model is not applicable", async () => {
    const { report } = await judge("6.12.117-amd64-noiommu.jsonl.gz", ([header, ...steps]) => [
      { ...(header as TranscriptHeader), config: "amd" },
      ...steps.slice(0, 5),
    ]);
    expect([report.passed, report.failed]).toEqual([0, 0]);
  });
});

describe("a device's message interrupt", () => {
  it.each([
    ["vtd", () => vtd()],
    ["smmuv3", () => smmuv3()],
  ] as [string, () => IommuPlugin][])("reaches the program's eventfd behind %s", async (_name, iommu) => {
    const platform = await createPlatform({
      iommus: [iommu()],
      devices: [edu({ bdf: "0000:00:05.0" })],
      services: [vfioType1()],
    });
    const event = new EventFd(platform.scheduler, 0, true);
    await platform.run(async () => {
      const task = platform.kernel.spawn({ name: "program" });
      const container = await VfioContainer.open(task);
      const group = await container.attach(platform.device("0000:00:05.0").group?.id ?? -1);
      await container.setIommu();
      const device = await group.device("0000:00:05.0");
      await device.enableBusMaster();
      await device.setIrqs(PciIrq.MSI, [task.fds.install(new OpenFile(event, O.RDWR))]);
      await container.mapDma({ iova: 0n, vaddr: await (task.mm as AddressSpace).mmap({ length: 4096 }), size: 4096 });
      // Unmapping everything leaves the doorbell: it is the kernel's.
      await container.unmapAll();
      await device.write32(0, 0x60, 1);
      await task.exit();
    });
    expect(event.count).toBe(1n);
    expect(await platform.close()).toEqual([]);
  });
});
