// You will see a device of your own, in fifty lines: it adds up 32-bit words of memory and interrupts. A simulated program
// drives it here; an unmodified C program does under
//     iommukit run --machine examples/dist/06-own-device.js -- PROGRAM
// which takes the default export for the machine.
import { createPlatform, type DevicePlugin, EventFd, NO_PASID, O, OpenFile, type Platform } from "@iommukit/core";
import { vtd } from "@iommukit/iommu-vtd";
import { type DevicePorts, devicePorts, PciDevice } from "@iommukit/pci-device";
import { PciIrq, VfioContainer, vfioType1 } from "@iommukit/vfio-type1";
import { main, type Print } from "./print.js";

const BDF = "0000:00:04.0";
/** BAR 0: where the words are, how many; writing the count starts; the sum, and how the DMA ended. */
const ADDRESS = 0x00;
const COUNT = 0x08;
const SUM = 0x0c;
const STATUS = 0x10;

class Adder extends PciDevice {
  readonly #registers = new DataView(new ArrayBuffer(4096));

  constructor(ports: DevicePorts) {
    const bars = [{ index: 0, size: 4096, kind: "mem32", prefetchable: false }] as const;
    const options = { vendor: 0x1234, device: 0x0add, classCode: 0x120000, bars, functionLevelReset: true };
    super({ ...options, msi: { vectorsLog2: 0, maskable: false } }, { bdf: BDF }, ports);
  }

  protected override readRegion(_bar: number, offset: number, into: Uint8Array): boolean {
    into.set(new Uint8Array(this.#registers.buffer, offset, into.length));
    return true;
  }

  protected override writeRegion(_bar: number, offset: number, bytes: Uint8Array): boolean {
    new Uint8Array(this.#registers.buffer, offset, bytes.length).set(bytes);
    if (offset === COUNT) this.ports.scheduler.spawn(`${BDF} add`, () => this.#add());
    return true;
  }

  async #add(): Promise<void> {
    const words = new Uint32Array(this.#registers.getUint32(COUNT, true));
    const address = this.#registers.getBigUint64(ADDRESS, true);
    const { status } = await this.dma.read(NO_PASID, address, new Uint8Array(words.buffer), { onFault: "report" });
    const sum = words.reduce((all, word) => (all + word) >>> 0, 0);
    this.#registers.setUint32(SUM, sum, true);
    this.#registers.setUint32(STATUS, status, true);
    this.interrupts.raise(0);
  }

  protected override resetDevice(): void {
    new Uint8Array(this.#registers.buffer).fill(0);
  }
}

const adder: DevicePlugin = {
  name: "adder",
  segment: 0,
  create: (container) => [new Adder(devicePorts(container))],
};

/** What `iommukit run --machine` calls. */
export default function machine({ variants = [] as readonly string[] } = {}): Promise<Platform> {
  return createPlatform({ iommus: [vtd()], devices: [adder], services: [vfioType1()], variants });
}

export async function example(print: Print): Promise<void> {
  const platform = await machine();
  await platform.run(async () => {
    const task = platform.kernel.spawn({ name: "program" });
    const container = await VfioContainer.open(task);
    const group = await container.attach(platform.device(BDF).group?.id ?? -1);
    await container.setIommu();
    const device = await group.device(BDF);
    await device.enableBusMaster();
    const interrupt = task.fds.install(new OpenFile(new EventFd(platform.scheduler), O.RDWR));
    await device.setIrqs(PciIrq.MSI, [interrupt]);
    const vaddr = await task.memory.mmap({ length: 4096 });
    await task.memory.write(vaddr, new Uint8Array(Uint32Array.of(1, 2, 3, 4).buffer));
    await container.mapDma({ iova: 0x10000n, vaddr, size: 4096 });
    for (const address of [0x10000, 0x20000]) {
      await device.write32(0, ADDRESS, address);
      await device.write32(0, COUNT, 4);
      await task.pread(interrupt, new Uint8Array(8), 0);
      const [sum, status] = [await device.read32(0, SUM), await device.read32(0, STATUS)];
      print(`at 0x${address.toString(16)}: sum ${sum}, status ${status}`);
    }
    await task.exit();
  });
  for (const line of platform.kernel.log) print(line);
  for (const leak of await platform.close()) print(`left behind: ${leak}`);
}

await main(import.meta, example);
