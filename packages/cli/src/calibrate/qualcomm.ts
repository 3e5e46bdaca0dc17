/**
 * Qualcomm SM8150, 2021: invalidating 32 MiB of scattered pages took a command for each page before a patch, and one for the
 * whole ASID for each 2 MiB after it. Linux's SMMUv3 driver has the same rule (C7); without it is variant L-25.
 */
import { createPlatform, IommuProt, iommuMap, iommuUnmap } from "@iommukit/core";
import { IDR3, PRESETS, type Smmuv3Preset, smmuv3 } from "@iommukit/iommu-smmuv3";
import { edu } from "@iommukit/pci-device";
import type { Calibration, Finding } from "./finding.js";

const SIZE = 0x200_0000;
const CHUNK = 0x20_0000;
const PAGE = 0x1000;

/** An SMMU without range invalidation, as SMMUv2 and early SMMUv3 are. */
const WITHOUT_RANGES: Smmuv3Preset = {
  ...PRESETS["mmu-700-like"],
  name: "without-ranges",
  idr3: PRESETS["mmu-700-like"].idr3 & ~IDR3.RIL.lowMask,
};

/** Commands that unmapping 32 MiB of 4 KiB pages takes, 2 MiB at a time. */
async function commands(variants: readonly string[]): Promise<Readonly<Record<string, number>>> {
  const platform = await createPlatform({ iommus: [smmuv3({ preset: WITHOUT_RANGES, variants })] });
  const { chip } = platform.iommus[0];
  return platform.run(async () => {
    const [device] = await platform.plug(edu({ bdf: "0000:01:00.0" }));
    const domain = device.group?.domain;
    if (domain === undefined) throw new Error("the device has no domain");
    const prot = IommuProt.READ | IommuProt.WRITE;
    // Unmapped as pages: taken out as one entry of 2 MiB, whose table goes too, each would cost one command by address more.
    domain.pgsizeBitmap &= -domain.pgsizeBitmap;
    // Every other page of RAM, as in a scattered buffer.
    for (let at = 0; at < SIZE; at += PAGE) await iommuMap(domain, BigInt(SIZE + at), 2 * at, BigInt(PAGE), prot);
    const before = chip.commandsConsumed();
    for (let at = 0; at < SIZE; at += CHUNK) await iommuUnmap(domain, BigInt(SIZE + at), BigInt(CHUNK));
    const after = Object.entries(chip.commandsConsumed());
    return Object.fromEntries(after.map(([name, count]) => [name, count - (before[name] ?? 0)]));
  });
}

function finding(what: string, published: number, model: number): Finding {
  const how = "counted: commands that the SMMUv3 chip consumed while the driver unmapped 16 x 2 MiB of 4 KiB pages";
  return { what, unit: "commands", published, model, tolerance: 0, how };
}

export const qualcomm: Calibration = {
  name: "qualcomm",
  title: "invalidation commands for an unmap of 32 MiB",
  source: "PATCHv5 2021-08-11 <20210811160426.10312-1-saiprakash.ranjan@codeaurora.org>, SM8150 (SMMUv2)",
  run: async () => {
    const before = await commands(["L-25"]);
    const after = await commands([]);
    return [
      finding("by address (TLBIVA; here CMD_TLBI_NH_VA), before", 8192, before.CMD_TLBI_NH_VA ?? 0),
      finding("by ASID (TLBIASID; here CMD_TLBI_NH_ASID), after", 16, after.CMD_TLBI_NH_ASID ?? 0),
      finding("by address, after", 0, after.CMD_TLBI_NH_VA ?? 0),
    ];
  },
};
