/** A device whose registers read as zero and take every write: what is of interest is its configuration space. */
import { PciDevice } from "../pci-device.js";

export class QuietDevice extends PciDevice {
  protected override readRegion(_bar: number, _offset: number, into: Uint8Array): boolean {
    into.fill(0);
    return true;
  }

  protected override writeRegion(): boolean {
    return true;
  }

  protected override resetDevice(): void {}
}
