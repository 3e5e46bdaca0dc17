/**
 * Random programs of CPU accesses, mm operations, binds, unbinds, exits, device DMA and hot-plug on an SMMUv3 and a VT-d at
 * once, beside plain maps: same bytes, same faults, same answers, no leak. IOMMUKIT_PROGRAMS=2000 for the whole run, and
 * IOMMUKIT_PROGRAMS_FROM=1000 to begin with a later one; program n is always the same.
 */
import { describe, expect, it } from "vitest";
import { Machine } from "./programs/machine.js";
import { program } from "./programs/operations.js";

const FROM = Number(process.env.IOMMUKIT_PROGRAMS_FROM ?? 0);
const COUNT = Number(process.env.IOMMUKIT_PROGRAMS ?? 30);
const LENGTH = 220;
const PER_TEST = 10;

describe("random programs on both IOMMUs at once", () => {
  const first = Array.from({ length: Math.ceil(COUNT / PER_TEST) }, (_, i) => FROM + i * PER_TEST);
  it.each(first)(
    `agree with plain maps, ${PER_TEST} from %i on (B1) (C2) (E7) (I-1)`,
    async (from) => {
      for (let seed = from; seed < Math.min(from + PER_TEST, FROM + COUNT); seed++) {
        const machine = await Machine.create(seed % 2 === 0 ? "seed" : "mainline");
        try {
          expect(await machine.run(program(seed, LENGTH))).toEqual([]);
        } catch (error) {
          throw new Error(`program ${seed}: ${(error as Error).message}`, { cause: error });
        }
      }
      if (from === first[0] && COUNT < 2000)
        console.info(`${COUNT} random programs; IOMMUKIT_PROGRAMS=2000 runs the whole property`);
    },
    300_000,
  );
});
