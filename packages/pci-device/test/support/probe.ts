/** A function with everything and nothing behind it. */
import type { FunctionOptions } from "../../src/function-options.js";
import { PciDevice, type PlacementOptions } from "../../src/pci-device.js";
import type { Bench } from "./bench.js";

export class Probe extends PciDevice {
  resets = 0;
  readonly #memory = new Uint8Array(0x1000);

  protected override readRegion(_bar: number, offset: number, into: Uint8Array): boolean {
    into.set(this.#memory.subarray(offset, offset + into.length));
    return true;
  }

  protected override writeRegion(_bar: number, offset: number, bytes: Uint8Array): boolean {
    this.#memory.set(bytes, offset);
    return true;
  }

  protected override resetDevice(): void {
    this.resets++;
  }
}

export const EVERYTHING: FunctionOptions = {
  vendor: 0x1234,
  device: 0x5aff,
  classCode: 0xff0000,
  bars: [{ index: 0, size: 0x1000, kind: "mem64", prefetchable: true }],
  functionLevelReset: true,
  powerManagement: { Version: 3 },
  msi: { vectorsLog2: 2, maskable: true },
  ats: { sets: 4, ways: 2 },
  pri: { capacity: 64 },
  pasid: { width: 16, execute: true, privileged: true },
};

export function probe(
  bench: Bench,
  options: Partial<FunctionOptions> = {},
  placement: Partial<PlacementOptions> = {},
): Probe {
  return new Probe({ ...EVERYTHING, ...options }, { bdf: "0000:01:00.0", ...placement }, bench.ports());
}
