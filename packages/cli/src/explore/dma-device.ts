/** A function that does nothing by itself: scenarios send DMA through it, in transactions that take time. */
import { type Device, type DevicePlugin, parseBdf } from "@iommukit/core";
import { devicePorts, type FunctionOptions, PciDevice, type PlacementOptions } from "@iommukit/pci-device";

const SHARED: FunctionOptions = {
  vendor: 0x1234,
  device: 0x5a10,
  classCode: 0x120000,
  functionLevelReset: true,
  ats: { sets: 4, ways: 2 },
  pri: { capacity: 16 },
  pasid: { width: 20 },
};

export class DmaDevice extends PciDevice {
  protected override readRegion(): boolean {
    return false;
  }

  protected override writeRegion(): boolean {
    return false;
  }

  protected override resetDevice(): void {}
}

export interface DmaDeviceOptions extends PlacementOptions {
  /** What differs from a device with ATS, PRI and PASIDs. */
  readonly function?: Partial<FunctionOptions>;
}

export function dmaDevice(options: DmaDeviceOptions): DevicePlugin {
  const placement = { ...options, dma: { split: true, ...options.dma } };
  return {
    name: `dma ${options.bdf}`,
    segment: parseBdf(options.bdf).segment,
    create: (container) => [new DmaDevice({ ...SHARED, ...options.function }, placement, devicePorts(container))],
  };
}

/** The device model behind a device of the machine. */
export function dmaOf(device: Device): DmaDevice {
  if (device.pci instanceof DmaDevice) return device.pci;
  throw new Error(`${device.name} is no DMA device of a scenario`);
}
