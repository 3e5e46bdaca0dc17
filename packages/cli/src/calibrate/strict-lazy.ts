/**
 * NVIDIA Grace, 8 NVMe, reads of 4 KiB: 2.8 M/s with strict invalidation, 16.4 M/s with lazy. Counts are exact; the ratio is a
 * trend only: here one CPU maps and unmaps, there 72 shared a command queue.
 */
import { parseBackend } from "../backends.js";
import { configurations } from "../replay/configuration.js";
import { Replayer } from "../replay/replay.js";
import type { Calibration, Finding } from "./finding.js";

const READS = 4096;
const PUBLISHED = 2.8 / 16.4;

function* trace(): Generator<string> {
  for (let n = 0; n < READS; n++) {
    // Addresses from the top down, as the allocator gives them, and none again before its invalidation.
    const iova = 0xffff_f000 - (n % 1024) * 0x1000;
    const range = `iova=0x${iova.toString(16).padStart(16, "0")} - 0x${(iova + 0x1000).toString(16).padStart(16, "0")}`;
    const head = `fio-1 [000] ..... ${(1 + n / 1e6).toFixed(6)}:`;
    yield `${head} map: IOMMU: ${range} paddr=0x0000000040000000 size=4096\n`;
    yield `${head} unmap: IOMMU: ${range} size=4096 unmapped_size=4096\n`;
  }
}

export const strictLazy: Calibration = {
  name: "strict-lazy",
  title: "4 KiB reads per second, strict against lazy invalidation",
  source: "NVIDIA Grace, NV-Kernels PR #182 (2025): 8 NVMe, 4 KiB randread, 2.8 and 16.4 M IOPS",
  run: async () => {
    const columns = configurations(["smmuv3", "vtd"].map(parseBackend), ["strict", "lazy"], ["huge"], undefined);
    const replayer = await Replayer.start(columns);
    await replayer.read(Buffer.from([...trace()].join("")));
    const [smmuStrict, smmuLazy, vtdStrict, vtdLazy] = replayer.finish().configurations;
    const finding = (label: string, strict: typeof smmuStrict, lazy: typeof smmuLazy): Finding => ({
      what: `${label}: strict / lazy`,
      unit: "",
      published: PUBLISHED,
      model: lazy.total.modelledNanoseconds / strict.total.modelledNanoseconds,
      tolerance: "trend",
      how:
        `counted: ${strict.total.waits} waits for ${READS} reads against ${lazy.total.waits}; ` +
        "computed: the inverse ratio of modelled CPU times, whose figures `iommukit replay` prints",
    });
    return [finding("smmuv3", smmuStrict, smmuLazy), finding("vtd", vtdStrict, vtdLazy)];
  },
};
