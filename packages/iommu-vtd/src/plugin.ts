/** VT-d as a plugin: the one place where the unit and its driver meet. */
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
import { VtdDriverOptions } from "./driver/options.js";
import { VtdDriver } from "./driver/vtd-driver.js";
import { VtdHardware } from "./hardware/vtd-hardware.js";
import { PRESETS, sapphireRapidsLike, type VtdPreset, type VtdPresetName } from "./presets.js";
import { PASID_ENTRY } from "./spec/pasid-table.js";
import { CONTEXT_ENTRY, SM_CONTEXT_ENTRY } from "./spec/root-context.js";

/** For `vtd()`: a preset, and how its driver behaves. */
export interface VtdOptions extends Omit<VtdDriverOptions, "name" | "index"> {
  /** A preset or its name; "sapphire-rapids-like" when absent. */
  readonly preset?: VtdPresetName | VtdPreset;
  /** Known bugs to switch on in this unit's driver, beside those of the platform: names of VTD_VARIANTS. */
  readonly variants?: readonly string[];
}

const RULE = "VT-d 6.5.3.3, table 28";
/** What may hold an entry, from the tables outwards (H24). In scalable mode a context entry's change reaches below it (L-11, L-12). */
const ENTRIES: readonly EntryKind[] = [
  {
    layout: CONTEXT_ENTRY,
    cachedBy: (entry) => ["context", "iotlb", ...(CONTEXT_ENTRY.TT.decode(entry) === "deviceTlb" ? ["ATC"] : [])],
    rule: RULE,
  },
  {
    layout: SM_CONTEXT_ENTRY,
    // Whoever takes it away has emptied the PASID table: PASID cache and IOTLB may be skipped then.
    cachedBy: (entry) => [
      "context",
      ...(SM_CONTEXT_ENTRY.P.decode(entry) ? ["pasid", "iotlb"] : []),
      ...(SM_CONTEXT_ENTRY.DTE.decode(entry) ? ["ATC"] : []),
    ],
    rule: RULE,
  },
  { layout: PASID_ENTRY, cachedBy: () => ["pasid", "iotlb"], rule: RULE },
];

/**
 * A remapping unit with its driver: `createPlatform({ iommus: [vtd()] })`.
 * @throws IommuError EINVAL no preset has that name
 */
export function vtd(options: VtdOptions = {}): IommuPlugin {
  const preset = presetOf(options.preset ?? sapphireRapidsLike);
  return {
    name: "vtd",
    description: `Intel VT-d, ${preset.name}: ${preset.summary}`,
    create(container, name) {
      const hardware = new VtdHardware(container.resolve(ChipPorts), { name, preset });
      const chip = container.resolve(ChipSocket).chip(hardware);
      const shared = container.resolve(Variants);
      const own = variants(options.variants);
      container.registerInstance<Variants>(Variants, { has: (variant) => own.has(variant) || shared.has(variant) });
      container.registerInstance<Mmio>(Mmio, chip);
      container.registerInstance<VtdDriverOptions>(VtdDriverOptions, { ...options, name, index: indexOf(name) });
      const ops = container.resolve(VtdDriver);
      return { name, chip, ops, entries: ENTRIES, start: () => ops.start(), stop: () => ops.stop() };
    },
  };
}

function presetOf(preset: VtdPresetName | VtdPreset): VtdPreset {
  if (typeof preset !== "string") return preset;
  if (!Object.hasOwn(PRESETS, preset))
    throw new IommuError("EINVAL", `no preset "${preset}"; there are ${Object.keys(PRESETS).join(", ")}`);
  return PRESETS[preset];
}

/** "vtd" is dmar0, "vtd.1" is dmar1. */
function indexOf(name: string): number {
  return Number(name.split(".")[1] ?? 0);
}
