/**
 * QEMU's NVMe controller (1b36:0010) as far as the kernel and VFIO see it from outside: header, BAR, MSI-X with 65 vectors,
 * power management, function level reset. Its registers read as zero and no command is executed.
 */
import { type DevicePlugin, parseBdf } from "@iommukit/core";
import { devicePorts } from "../device-ports.js";
import type { FunctionOptions } from "../function-options.js";
import type { PlacementOptions } from "../pci-device.js";
import { QuietDevice } from "./quiet-device.js";

const NVME: FunctionOptions = {
  vendor: 0x1b36,
  device: 0x0010,
  revision: 2,
  classCode: 0x010802,
  subsystemVendor: 0x1af4,
  subsystem: 0x1100,
  interruptPin: 1,
  functionLevelReset: true,
  bars: [{ index: 0, size: 0x4000, kind: "mem64", prefetchable: false }],
  msix: { vectors: 65, bar: 0, table: 0x2000, pba: 0x3000 },
  powerManagement: { Version: 3, NoSoftReset: true },
  standardOrder: [
    ["msix", 0x40],
    ["pm", 0x60],
    ["pcie", 0x80],
  ],
};

/** For `createPlatform({ devices })`. */
export function nvme(options: PlacementOptions): DevicePlugin {
  return {
    name: `nvme ${options.bdf}`,
    segment: parseBdf(options.bdf).segment,
    create: (container) => [new QuietDevice(NVME, options, devicePorts(container))],
  };
}
