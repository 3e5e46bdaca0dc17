/** One process behind an SMMUv3 and a VT-d at once: one PASID, two table formats in RAM, the same bytes for both devices. */
import { type AddressSpace, createPlatform, type Device, IOMMU_SVA_FEAT_IOPF } from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";
import {
  AcceleratorClient,
  accelerator,
  type DescriptorFields,
  decodeCompletion,
  encodeDescriptor,
} from "@iommukit/pci-device";
import { describe, expect, it } from "vitest";

const ARM = "0000:01:00.0";
const INTEL = "0001:01:00.0";
const PAGE = 4096n;

async function setup(sva: "seed" | "mainline") {
  const platform = await createPlatform({
    iommus: [smmuv3(), vtd()],
    devices: [accelerator({ bdf: ARM }), accelerator({ bdf: INTEL })],
    sva,
  });
  const task = platform.kernel.spawn();
  const mm = task.mm as AddressSpace;
  const devices = [platform.device(ARM), platform.device(INTEL)];
  const pasids = await platform.run(async () => {
    const given: number[] = [];
    for (const dev of devices) {
      dev.pci.writeConfig(4, 2, 6);
      await platform.sva.iommuSvaDeviceInit(dev, IOMMU_SVA_FEAT_IOPF, 0, async () => 0);
      given.push(await platform.sva.iommuSvaBindDevice(dev, mm, IOMMU_SVA_FEAT_IOPF));
      const client = new AcceleratorClient(dev.pci);
      await client.enable();
      await client.enableQueue(0, { pasid: given[0] });
    }
    return given;
  });
  const record = await platform.run(() => mm.mmap({ length: 4096 }));
  const execute = async (dev: Device, fields: DescriptorFields) => {
    await mm.write(record, new Uint8Array(32));
    const where = {
      CompletionRecordAddress: record,
      CompletionRecordAddressValid: true,
      RequestCompletionRecord: true,
    };
    await new AcceleratorClient(dev.pci).submit(0, encodeDescriptor({ ...where, BlockOnFault: true, ...fields }));
    const bytes = new Uint8Array(32);
    while (bytes[0] === 0) {
      await platform.scheduler.sleep(1000);
      await mm.read(record, bytes);
    }
    return decodeCompletion(bytes).Status;
  };
  return { platform, sva: platform.sva, task, mm, devices, pasids, execute };
}

describe.each(["seed", "mainline"] as const)("a process behind both IOMMUs, SVA core of the %s", (flavour) => {
  it("has one PASID, and each device sees what the other and the CPU have written (B1) (D2)", async () => {
    const { platform, sva, mm, devices, pasids, execute } = await setup(flavour);
    const [arm, intel] = devices;
    expect(pasids).toEqual([1, 1]);
    await platform.run(async () => {
      expect(sva.ioMmOf(mm)?.contexts.size).toBe(2);
      const at = await mm.mmap({ length: 3 * 4096 });
      await mm.write(at, new TextEncoder().encode("shared"));
      const move = (from: bigint, to: bigint) =>
        ({ Opcode: "MEMMOVE", Source: from, Destination: to, TransferSize: 6 }) as const;
      expect(await execute(arm, move(at, at + PAGE))).toBe("SUCCESS");
      expect(await execute(intel, move(at + PAGE, at + 2n * PAGE))).toBe("SUCCESS");
      const bytes = new Uint8Array(6);
      await mm.read(at + 2n * PAGE, bytes);
      expect(new TextDecoder().decode(bytes)).toBe("shared");
    });
    expect(await platform.close()).toEqual([]);
  });

  it("takes a page away from both before it is free (C2) (I-1)", async () => {
    const { platform, mm, devices, execute } = await setup(flavour);
    await platform.run(async () => {
      const at = await mm.mmap({ length: 4096 });
      const fill = { Opcode: "MEMFILL", Source: 7n, Destination: at, TransferSize: 64 } as const;
      for (const dev of devices) expect(await execute(dev, fill)).toBe("SUCCESS");
      await mm.munmap(at, 4096);
      for (const dev of devices) expect(await execute(dev, fill)).not.toBe("SUCCESS");
    });
    expect(await platform.close()).toEqual([]);
  });

  it("keeps the one while it leaves the other (B3) (B5)", async () => {
    const { platform, sva, mm, devices, execute } = await setup(flavour);
    const [arm, intel] = devices;
    await platform.run(async () => {
      const at = await mm.mmap({ length: 4096 });
      const fill = { Opcode: "MEMFILL", Source: 7n, Destination: at, TransferSize: 64 } as const;
      await sva.iommuSvaUnbindDevice(arm, 1);
      await platform.scheduler.idle();
      expect([...(sva.ioMmOf(mm)?.contexts.keys() ?? [])]).toEqual([intel.iommu?.ops]);
      expect(await execute(intel, fill)).toBe("SUCCESS");
    });
    expect(await platform.close()).toEqual([]);
  });
});
