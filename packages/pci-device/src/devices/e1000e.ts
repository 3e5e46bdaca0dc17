/**
 * QEMU's 82574L network controller (8086:10d3) as far as the kernel and VFIO see it from outside: header, four BARs and a
 * ROM, MSI, MSI-X with five vectors, power management by which it can be reset. It neither sends nor receives.
 */
import { type DevicePlugin, parseBdf } from "@iommukit/core";
import { devicePorts } from "../device-ports.js";
import type { FunctionOptions } from "../function-options.js";
import type { PlacementOptions } from "../pci-device.js";
import { QuietDevice } from "./quiet-device.js";

const E1000E: FunctionOptions = {
  vendor: 0x8086,
  device: 0x10d3,
  classCode: 0x020000,
  subsystemVendor: 0x8086,
  subsystem: 0,
  interruptPin: 1,
  bars: [
    { index: 0, size: 0x2_0000, kind: "mem32", prefetchable: false },
    { index: 1, size: 0x2_0000, kind: "mem32", prefetchable: false },
    { index: 2, size: 0x20, kind: "io", prefetchable: false },
    { index: 3, size: 0x4000, kind: "mem32", prefetchable: false },
    { index: 6, size: 0x4_0000, kind: "mem32", prefetchable: false },
  ],
  msi: { vectorsLog2: 0, maskable: false },
  msix: { vectors: 5, bar: 3, table: 0, pba: 0x2000 },
  powerManagement: { Version: 2, DeviceSpecificInitialization: true },
  pcie: { CapabilityVersion: 1 },
  standardOrder: [
    ["pm", 0xc8],
    ["msi", 0xd0],
    ["pcie", 0xe0],
    ["msix", 0xa0],
  ],
};

/** For `createPlatform({ devices })`. */
export function e1000e(options: PlacementOptions): DevicePlugin {
  return {
    name: `e1000e ${options.bdf}`,
    segment: parseBdf(options.bdf).segment,
    create: (container) => [new QuietDevice(E1000E, options, devicePorts(container))],
  };
}
