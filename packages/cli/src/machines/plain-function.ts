/** A conventional PCI function that only has to be there. */
import { type DevicePlugin, parseBdf } from "@iommukit/core";
import { devicePorts, type FunctionOptions, PciDevice, type PlacementOptions } from "@iommukit/pci-device";

class PlainFunction extends PciDevice {
  protected override readRegion(): boolean {
    return false;
  }

  protected override writeRegion(): boolean {
    return false;
  }

  protected override resetDevice(): void {}
}

export function plainFunction(options: FunctionOptions, placement: PlacementOptions): DevicePlugin {
  return {
    name: `function ${placement.bdf}`,
    segment: parseBdf(placement.bdf).segment,
    create: (container) => [new PlainFunction({ conventional: true, ...options }, placement, devicePorts(container))],
  };
}
