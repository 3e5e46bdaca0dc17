/**
 * Fast & Safe, SOSP'24: table reads for each 4 KiB page are the IOTLB misses and the misses of each level's paging-structure
 * cache, and throughput is p / (l0 + M lm). The chip gets a stream with the published misses and its reads are counted.
 */
import { createPlatform, IommuProt, iommuMap } from "@iommukit/core";
import { vtd } from "@iommukit/iommu-vtd";
import { edu } from "@iommukit/pci-device";
import { AccessProbe } from "../replay/access-probe.js";
import { FAST_AND_SAFE } from "../replay/cost-model.js";
import { newCounts } from "../replay/counts.js";
import type { Calibration, Finding } from "./finding.js";

/** Misses for each 100 pages: of the IOTLB, and of the caches of levels 4, 3 and 2 (their PTcache-L1, L2, L3). */
interface Published {
  readonly flows: number;
  readonly iotlb: number;
  readonly level4: number;
  readonly level3: number;
  readonly level2: number;
  readonly readsPerPage: number;
  /** In Gb/s: p / (l0 + M lm) with the published reads. */
  readonly throughput: number;
}

const PUBLISHED: readonly Published[] = [
  { flows: 5, iotlb: 130, level4: 5, level3: 5, level2: 36, readsPerPage: 1.76, throughput: 79.6 },
  { flows: 40, iotlb: 220, level4: 63, level3: 63, level2: 90, readsPerPage: 4.36, throughput: 35.5 },
];

const PAGES = 100;
const PAGE = 0x1000;
const MIB2 = 0x20_0000;
const GIB1 = 0x4000_0000;
const GIB512 = 0x80_0000_0000;

/** Addresses of 4 KiB pages, each new: in a new 512 GiB, 1 GiB or 2 MiB, or beside the last, as often as caches shall miss. */
function stream({ iotlb, level4, level3, level2 }: Published): number[] {
  const steps = [
    ...Array<number>(level4).fill(GIB512),
    ...Array<number>(level3 - level4).fill(GIB1),
    ...Array<number>(level2 - level3).fill(MIB2),
    ...Array<number>(iotlb - level2).fill(PAGE),
  ];
  let at = 0;
  return steps.map((step) => (at = (Math.floor(at / step) + 1) * step));
}

async function readsOf(addresses: readonly number[]): Promise<{ readonly misses: number; readonly reads: number }> {
  // Four levels, as Cascade Lake has.
  const platform = await createPlatform({ iommus: [vtd({ preset: "qemu-11-q35" })] });
  const counts = newCounts();
  await platform.run(async () => {
    const [device] = await platform.plug(edu({ bdf: "0000:01:00.0" }));
    const domain = device.group?.domain;
    if (domain === undefined) throw new Error("the device has no domain");
    const prot = IommuProt.READ | IommuProt.WRITE;
    for (const address of addresses) await iommuMap(domain, BigInt(address), 0x4000_0000, BigInt(PAGE), prot);
    const probe = new AccessProbe(platform, () => counts);
    for (const address of addresses) probe.read(device.rid, address / PAGE);
    probe.close();
  });
  if (counts.faults > 0) throw new Error(`${counts.faults} accesses faulted`);
  const reads = Object.entries(counts.reads).filter(([table]) => table.startsWith("SS "));
  return { misses: counts.misses.iotlb, reads: reads.reduce((total, [, count]) => total + count, 0) };
}

async function findings(published: Published): Promise<Finding[]> {
  const { flows, iotlb, readsPerPage, throughput } = published;
  const { misses, reads } = await readsOf(stream(published));
  const { l0, lm } = FAST_AND_SAFE;
  const perPage = reads / PAGES;
  return [
    {
      what: `IOTLB misses per page, ${flows} flows`,
      unit: "",
      published: iotlb / PAGES,
      model: misses / PAGES,
      tolerance: 0,
      how: "counted: misses of the VT-d chip's IOTLB on a stream made to miss so often",
    },
    {
      what: `table reads per page, ${flows} flows`,
      unit: "",
      published: readsPerPage,
      model: perPage,
      tolerance: 0,
      how: "counted: second-stage entries that the chip read for that stream",
    },
    {
      what: `throughput, ${flows} flows`,
      unit: "Gb/s",
      published: throughput,
      basis: "arithmetic",
      model: (PAGE * 8) / (l0 + perPage * lm),
      tolerance: 0.002,
      how: `computed: 4 KiB / (l0 + reads x lm) with the fitted l0 = ${l0} ns and lm = ${lm} ns (paper)`,
    },
  ];
}

export const fastAndSafe: Calibration = {
  name: "fast-and-safe",
  title: "table reads per page and throughput under IOTLB misses",
  source: FAST_AND_SAFE.source,
  run: async () => (await Promise.all(PUBLISHED.map(findings))).flat(),
};
