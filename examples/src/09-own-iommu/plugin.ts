/** Chip and driver as a plugin: `createPlatform({ iommus: [plain()] })`. */
import {
  ChipPorts,
  ChipSocket,
  InterruptController,
  type IommuPlugin,
  Kernel,
  PageAllocator,
  PhysicalMemory,
  Tracer,
} from "@iommukit/core";
import { PlainHardware } from "./chip.js";
import { PlainDriver } from "./driver.js";

export function plain(): IommuPlugin {
  return {
    name: "plain",
    description: "an IOMMU with a flat device table and x86-64 page tables of 4 KiB pages",
    /** The container is the board: each part under its interface's name. */
    create(container, name) {
      const chip = container.resolve(ChipSocket).chip(new PlainHardware(container.resolve(ChipPorts), name));
      const ops = new PlainDriver(
        chip,
        container.resolve(PhysicalMemory),
        container.resolve(PageAllocator),
        container.resolve(InterruptController),
        container.resolve(Tracer),
        container.resolve(Kernel),
      );
      return { name, chip, ops, start: () => ops.start(), stop: () => ops.stop() };
    },
  };
}
