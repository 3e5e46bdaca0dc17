/** The backends that commands know, each with the presets that its package has: "smmuv3", "vtd:qemu-11-q35". */
import type { IommuPlugin } from "@iommukit/core";
import { PRESETS as SMMUV3_PRESETS, type Smmuv3PresetName, smmuv3 } from "@iommukit/iommu-smmuv3";
import { PRESETS as VTD_PRESETS, type VtdPresetName, vtd } from "@iommukit/iommu-vtd";
import { InvalidArgumentError } from "commander";

export interface BackendOptions {
  /** iommu.strict; true when absent. */
  readonly strict?: boolean;
}

export interface Backend {
  /** As it was asked for: "smmuv3", "vtd:qemu-11-q35". */
  readonly label: string;
  readonly name: "smmuv3" | "vtd";
  plugin(options?: BackendOptions): IommuPlugin;
}

interface Kind {
  readonly presets: readonly string[];
  plugin(preset: string | undefined, options: BackendOptions): IommuPlugin;
}

const KINDS: Readonly<Record<Backend["name"], Kind>> = {
  smmuv3: {
    presets: Object.keys(SMMUV3_PRESETS),
    plugin: (preset, options) => smmuv3({ ...options, preset: preset as Smmuv3PresetName | undefined }),
  },
  vtd: {
    presets: Object.keys(VTD_PRESETS),
    plugin: (preset, options) => vtd({ ...options, preset: preset as VtdPresetName | undefined }),
  },
};

export const BACKEND_NAMES = Object.keys(KINDS) as readonly Backend["name"][];

/** For help texts: "smmuv3 (qemu-11-virt, …), vtd (…)". */
export const BACKEND_HELP = BACKEND_NAMES.map((name) => `${name} (${KINDS[name].presets.join(", ")})`).join(", ");

/** @param text NAME or NAME:PRESET. @throws InvalidArgumentError what there is instead */
export function parseBackend(text: string): Backend {
  const [name, preset, ...rest] = text.split(":");
  if (!Object.hasOwn(KINDS, name) || rest.length > 0)
    throw new InvalidArgumentError(`NAME or NAME:PRESET with a name of ${BACKEND_NAMES.join(", ")} is wanted.`);
  const kind = KINDS[name as Backend["name"]];
  if (preset !== undefined && !kind.presets.includes(preset))
    throw new InvalidArgumentError(`${name} has the presets ${kind.presets.join(", ")}.`);
  return { label: text, name: name as Backend["name"], plugin: (options = {}) => kind.plugin(preset, options) };
}

/** For an option that may be repeated or hold several with commas. */
export function collectBackends(text: string, all: readonly Backend[] = []): readonly Backend[] {
  const chosen = [...all, ...text.split(",").map(parseBackend)];
  if (new Set(chosen.map(({ label }) => label)).size < chosen.length)
    throw new InvalidArgumentError("each backend at most once is wanted.");
  return chosen;
}
