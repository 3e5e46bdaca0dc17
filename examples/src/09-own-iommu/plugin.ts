/** Chip and driver as a plugin: `createPlatform({ iommus: [plain()] })`. */
import { ChipPorts, ChipSocket, type IommuPlugin, Mmio } from "@iommukit/core";
import { PlainHardware } from "./chip.js";
import { PlainDriver } from "./driver.js";

export function plain(): IommuPlugin {
  return {
    name: "plain",
    description: "an IOMMU with a flat device table and x86-64 page tables of 4 KiB pages",
    create(container, name) {
      const chip = container.resolve(ChipSocket).chip(new PlainHardware(container.resolve(ChipPorts), name));
      container.registerInstance<Mmio>(Mmio, chip);
      const ops = container.resolve(PlainDriver);
      return { name, chip, ops, start: () => ops.start(), stop: () => ops.stop() };
    },
  };
}
