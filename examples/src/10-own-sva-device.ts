// You will see a device of your own that shares the program's address space: it adds up words where the program keeps them, by
// PASID, and asks for the pages that are not there. Beside 06-own-device it has three capabilities more, and no MAP_DMA.
import { createPlatform, type DevicePlugin, type IommuPlugin } from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";
import { type DevicePorts, devicePorts, dmaStatusName, PciDevice } from "@iommukit/pci-device";
import { VfioContainer, vfioType1 } from "@iommukit/vfio-type1";
import { main, type Print } from "./print.js";

const BDF = "0000:01:00.0";
const PAGE = 4096n;
/** BAR 0: whose words, where they are, how many; writing the count starts; the sum, and how it ended, -1 before. */
const ADDRESS = 0x00;
const PASID = 0x08;
const COUNT = 0x0c;
const SUM = 0x10;
const STATUS = 0x14;
const BUSY = 0xffff_ffff;

class SharingAdder extends PciDevice {
  readonly #registers = new DataView(new ArrayBuffer(4096));

  constructor(ports: DevicePorts) {
    const bars = [{ index: 0, size: 4096, kind: "mem32", prefetchable: false }] as const;
    const sva = { ats: { sets: 16, ways: 2 }, pri: { capacity: 32 }, pasid: { width: 20 } };
    super(
      { vendor: 0x1234, device: 0x5a, classCode: 0x120000, bars, functionLevelReset: true, ...sva },
      { bdf: BDF },
      ports,
    );
  }

  protected override readRegion(_bar: number, offset: number, into: Uint8Array): boolean {
    into.set(new Uint8Array(this.#registers.buffer, offset, into.length));
    return true;
  }

  protected override writeRegion(_bar: number, offset: number, bytes: Uint8Array): boolean {
    new Uint8Array(this.#registers.buffer, offset, bytes.length).set(bytes);
    if (offset !== COUNT) return true;
    this.#registers.setUint32(STATUS, BUSY, true);
    this.ports.scheduler.spawn(`${BDF} add`, () => this.#add());
    return true;
  }

  /** `read` goes through the ATC; for a page that is not there it sends a page request, and waits for the answer. */
  async #add(): Promise<void> {
    const registers = this.#registers;
    const words = new Uint32Array(registers.getUint32(COUNT, true));
    const address = registers.getBigUint64(ADDRESS, true);
    const { status } = await this.dma.read(registers.getUint32(PASID, true), address, new Uint8Array(words.buffer));
    registers.setUint32(
      SUM,
      words.reduce((all, word) => (all + word) >>> 0, 0),
      true,
    );
    registers.setUint32(STATUS, status, true);
  }

  protected override resetDevice(): void {
    new Uint8Array(this.#registers.buffer).fill(0);
  }
}

const sharingAdder: DevicePlugin = {
  name: "sharing-adder",
  segment: 0,
  create: (container) => [new SharingAdder(devicePorts(container))],
};

async function behind(iommu: IommuPlugin, print: Print): Promise<void> {
  const platform = await createPlatform({ iommus: [iommu], devices: [sharingAdder], services: [vfioType1()] });
  const { scheduler } = platform;
  let asked = 0;
  platform.trace.on("pri:requested", ({ unit }) => {
    if (unit === BDF) asked++;
  });
  await platform.run(async () => {
    const task = platform.kernel.spawn({ name: "program" });
    const container = await VfioContainer.open(task);
    const group = await container.attach(platform.device(BDF).group?.id ?? -1);
    await container.setIommu();
    const device = await group.device(BDF);
    await device.enableBusMaster();
    await device.write32(0, PASID, await container.bind()); // turns PASID, ATS and PRI on, in this order
    const heap = await task.memory.mmap({ length: 4 * Number(PAGE) });
    await task.memory.write(heap, new Uint8Array(Uint32Array.of(1, 2, 3, 4).buffer));
    const add = async (what: string, address: bigint, count: number) => {
      asked = 0;
      await device.write32(0, ADDRESS, Number(address & 0xffff_ffffn));
      await device.write32(0, ADDRESS + 4, Number(address >> 32n));
      await device.write32(0, COUNT, count);
      while ((await device.read32(0, STATUS)) === BUSY) await scheduler.sleep(1000);
      const status = dmaStatusName(await device.read32(0, STATUS));
      print(`  ${what}: ${status}, sum ${await device.read32(0, SUM)}, ${asked} page requests`);
    };
    await add("words that the program has written", heap, 4);
    await add("the next two pages, which nobody has touched", heap + PAGE, 2048);
    await add("an address that the program does not have", 0x1000n, 4);
    await task.exit();
  });
  print(`  left behind: ${(await platform.close()).length}`);
}

export async function example(print: Print): Promise<void> {
  for (const iommu of [smmuv3(), vtd()]) {
    print(`behind ${iommu.name}:`);
    await behind(iommu, print);
  }
}

await main(import.meta, example);
