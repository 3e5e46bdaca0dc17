/**
 * iova_stress: one 4 KiB page in every 2 MiB of 16 TiB. The driver's page table code fills two parts of different sizes for
 * real; the tables of each level are as many as the level's spans that hold a page, and that count, which must equal both parts
 * exactly, gives the rest.
 */
import { createPlatform, IommuProt, iommuMap, type Platform } from "@iommukit/core";
import { edu } from "@iommukit/pci-device";
import { type Backend, parseBackend } from "../backends.js";
import type { Calibration, Finding } from "./finding.js";

const PAGE = 0x1000;
const STEP = 0x20_0000;
const GIB = 2 ** 30;
const MIB = 2 ** 20;
const WHOLE = 16 * 2 ** 40;
const PARTS = [GIB, 16 * GIB];
const ENTRIES = 512;

function tablePages(platform: Platform): number {
  let pages = 0;
  for (const [owner, count] of platform.pages.usage()) if (owner.includes("page table")) pages += count;
  return pages;
}

/** Table pages after one page in every 2 MiB of `size` bytes was mapped. */
async function built(backend: Backend, size: number): Promise<number> {
  const platform = await createPlatform({ iommus: [backend.plugin()] });
  await platform.run(async () => {
    const [device] = await platform.plug(edu({ bdf: "0000:01:00.0" }));
    const domain = device.group?.domain;
    if (domain === undefined) throw new Error("the device has no domain");
    for (let at = 0; at < size; at += STEP)
      await iommuMap(domain, BigInt(at), 0x4000_0000, BigInt(PAGE), IommuProt.READ | IommuProt.WRITE);
  });
  return tablePages(platform);
}

/** The same, computed: at each level one table for each span of one table that has a page in it. */
function computed(levels: number, size: number): number {
  let pages = 0;
  for (let level = 1; level <= levels; level++) pages += Math.ceil(size / (PAGE * ENTRIES ** level));
  return pages;
}

async function findings(label: string, levels: number): Promise<Finding[]> {
  const backend = parseBackend(label);
  const parts: Finding[] = [];
  for (const size of PARTS) {
    parts.push({
      what: `${label}: table pages for ${size / GIB} GiB`,
      unit: "pages",
      published: computed(levels, size),
      basis: "arithmetic",
      model: await built(backend, size),
      tolerance: 0,
      how: `counted: pages of the driver's tables after ${size / STEP} maps`,
    });
  }
  return [
    ...parts,
    {
      what: `${label}: tables for 16 TiB`,
      unit: "MiB",
      published: 32_783,
      model: (computed(levels, WHOLE) * PAGE) / MIB,
      tolerance: 0.002,
      how: `computed with the arithmetic that gives the parts above exactly (${levels} levels)`,
    },
  ];
}

export const iovaStress: Calibration = {
  name: "iova-stress",
  title: "table memory for one 4 KiB page in every 2 MiB of 16 TiB",
  source: "soleen/iova_stress: about 32,783 MB of tables",
  run: async () => [...(await findings("smmuv3", 4)), ...(await findings("vtd", 5))],
};
