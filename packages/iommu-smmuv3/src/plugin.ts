/** SMMUv3 as a plugin: the one place where the chip and its driver meet. */
import {
  ChipPorts,
  ChipSocket,
  type EntryKind,
  IommuError,
  type IommuPlugin,
  Mmio,
  Variants,
  variants,
} from "@iommukit/core";
import { Smmuv3DriverOptions } from "./driver/driver-context.js";
import { Smmuv3Driver } from "./driver/smmuv3-driver.js";
import { Smmuv3Hardware } from "./hardware/smmuv3-hardware.js";
import { PRESETS, type Smmuv3Preset, type Smmuv3PresetName } from "./presets.js";
import { CD } from "./spec/context-descriptor.js";
import { STE } from "./spec/stream-table.js";

/** For `smmuv3()`: a preset, and how its driver behaves. */
export interface Smmuv3Options extends Omit<Smmuv3DriverOptions, "name"> {
  /** A preset or its name; "mmu-700-like" when absent. */
  readonly preset?: Smmuv3PresetName | Smmuv3Preset;
  /** Known bugs to switch on in this instance's driver, beside those of the platform. */
  readonly variants?: readonly string[];
}

/** IHI 0070: the command names the configuration structure that changed; what hangs below goes by its own commands. */
const ENTRIES: readonly EntryKind[] = [
  { layout: STE, cachedBy: () => ["config"], rule: "CMD_CFGI_STE, IHI0070 4.3.1" },
  { layout: CD, cachedBy: () => ["config"], rule: "CMD_CFGI_CD, IHI0070 4.3.3" },
];

/**
 * An SMMUv3 with its driver: `createPlatform({ iommus: [smmuv3()] })`.
 * @throws IommuError EINVAL no preset has that name; for an unknown variant when the platform is made
 */
export function smmuv3(options: Smmuv3Options = {}): IommuPlugin {
  const { queueShift = 12 } = options;
  if (!Number.isInteger(queueShift) || queueShift < 0 || queueShift > 19)
    throw new IommuError("EINVAL", `queues of 2^${queueShift} entries; 0 to 19 are possible (IDR1.CMDQS)`);
  const preset = presetOf(options.preset ?? "mmu-700-like");
  return {
    name: "smmuv3",
    description: `Arm SMMUv3, ${preset.name}: ${preset.summary}`,
    create(container, name) {
      const hardware = new Smmuv3Hardware(container.resolve(ChipPorts), { name, preset });
      const chip = container.resolve(ChipSocket).chip(hardware);
      const shared = container.resolve(Variants);
      const own = variants(options.variants);
      container.registerInstance<Variants>(Variants, { has: (variant) => own.has(variant) || shared.has(variant) });
      container.registerInstance<Mmio>(Mmio, chip);
      container.registerInstance<Smmuv3DriverOptions>(Smmuv3DriverOptions, { ...options, name });
      const ops = container.resolve(Smmuv3Driver);
      return { name, chip, ops, entries: ENTRIES, start: () => ops.start(), stop: () => ops.stop() };
    },
  };
}

function presetOf(preset: Smmuv3PresetName | Smmuv3Preset): Smmuv3Preset {
  if (typeof preset !== "string") return preset;
  if (!Object.hasOwn(PRESETS, preset))
    throw new IommuError("EINVAL", `no preset "${preset}"; there are ${Object.keys(PRESETS).join(", ")}`);
  return PRESETS[preset];
}
