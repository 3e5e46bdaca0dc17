/** The columns of a comparison: each backend with its preset, at each combination of swept values. */
import type { AddressSpaceOptions, IommuPlugin } from "@iommukit/core";
import {
  IDR5,
  type SetAssociative,
  PRESETS as SMMUV3_PRESETS,
  type Smmuv3Preset,
  type Smmuv3PresetName,
  smmuv3,
} from "@iommukit/iommu-smmuv3";
import { PRESETS as VTD_PRESETS, type VtdPreset, type VtdPresetName, vtd } from "@iommukit/iommu-vtd";
import type { AcceleratorOptions } from "@iommukit/pci-device";
import type { Backend } from "../backends.js";
import { UsageError } from "../errors.js";
import { combinations, type Setting, type Sweep, type Tuning, tuningOf } from "./parameters.js";

export interface Point {
  /** "smmuv3", "vtd:everything tlb=64". */
  readonly label: string;
  readonly backend: Backend;
  readonly settings: readonly Setting[];
  readonly iommu: IommuPlugin;
  readonly device: Omit<AcceleratorOptions, "bdf">;
  readonly mm: AddressSpaceOptions | undefined;
  readonly granule: number | undefined;
}

/** What of a workload decides which parameters mean something to it. */
interface Work {
  readonly name: string;
  readonly shares: boolean;
}

/** @throws UsageError a combination that no machine can have, or that the workload does not reach */
export function pointsOf(backends: readonly Backend[], sweeps: readonly Sweep[], workload: Work): readonly Point[] {
  return backends.flatMap((backend) => combinations(sweeps).map((settings) => pointOf(backend, settings, workload)));
}

function pointOf(backend: Backend, settings: readonly Setting[], workload: Work): Point {
  const tuning = tuningOf(settings);
  const label = [backend.label, ...settings.map(({ name, text }) => `${name}=${text}`)].join(" ");
  if (tuning.granule !== undefined && (backend.name !== "smmuv3" || workload.shares))
    throw new UsageError(
      `${label}: ${backend.name !== "smmuv3" ? "VT-d's tables have 4 KiB pages only" : `${workload.name} shares the CPU's tables, which have 4 KiB pages`}`,
    );
  if (!workload.shares && (tuning.pri ?? tuning.page) !== undefined)
    throw new UsageError(`${label}: ${workload.name} has no page requests, and no process pages`);
  return {
    label,
    backend,
    settings,
    iommu: backend.name === "smmuv3" ? tunedSmmuv3(label, backend, tuning) : tunedVtd(backend, tuning),
    device: {
      engines: tuning.engines,
      ats: tuning.atc === undefined ? undefined : associative(tuning.atc, 4),
      pri: tuning.pri === undefined ? undefined : { capacity: tuning.pri },
    },
    mm: tuning.page === undefined ? undefined : { hugePages: tuning.page === 4096 ? "never" : "always" },
    granule: tuning.granule === 4096 ? undefined : tuning.granule,
  };
}

function presetNameOf({ label }: Backend): string | undefined {
  return label.split(":")[1];
}

function associative(entries: number, ways: number): SetAssociative {
  const own = Math.min(entries, ways);
  return { sets: entries / own, ways: own };
}

function tunedSmmuv3(label: string, backend: Backend, { tlb, walk, granule }: Tuning): IommuPlugin {
  const preset: Smmuv3Preset = SMMUV3_PRESETS[(presetNameOf(backend) ?? "mmu-700-like") as Smmuv3PresetName];
  const { caches } = preset;
  return smmuv3({
    preset: {
      ...preset,
      idr5: granule === undefined ? preset.idr5 : onlyGranule(label, preset.idr5, granule),
      caches: {
        ...caches,
        tlb: tlb === undefined ? caches.tlb : associative(tlb, 8),
        walk: walk === undefined ? caches.walk : associative(walk, 4),
      },
    },
  });
}

/** The other granules are taken away, so that the driver has no choice. */
function onlyGranule(label: string, idr5: number, granule: number): number {
  const words = Int32Array.of(idr5);
  const fields = { 4096: IDR5.GRAN4K, 16384: IDR5.GRAN16K, 65536: IDR5.GRAN64K };
  const chosen = fields[granule as keyof typeof fields];
  if (chosen.get(words) === 0) throw new UsageError(`${label}: the preset has no such granule`);
  for (const field of Object.values(fields)) field.set(words, 0, field === chosen ? 1 : 0);
  return words[0];
}

function tunedVtd(backend: Backend, { tlb, walk }: Tuning): IommuPlugin {
  const preset: VtdPreset = VTD_PRESETS[(presetNameOf(backend) ?? "sapphire-rapids-like") as VtdPresetName];
  const { caches } = preset;
  return vtd({
    preset: {
      ...preset,
      caches: { ...caches, iotlb: tlb ?? caches.iotlb, pagingStructure: walk ?? caches.pagingStructure },
    },
  });
}
