/** Copies of a cache line from anywhere to anywhere, one after the other. */
import type { NamedWorkload } from "./named-workload.js";

const LINE = 64;
const COPIES = 2048;

export const RANDOM: NamedWorkload = {
  name: "random",
  says: "64-byte copies between random places, one after the other",
  shares: true,
  mib: 4,
  async run(bench) {
    const [{ memory, pasid }] = await bench.shared(1);
    const expected = bench.bytesAtRandom(bench.bytes);
    const start = await memory.mmap({ length: expected.length });
    await memory.write(start, expected);
    const lines = expected.length / LINE;
    for (let n = 0; n < COPIES; n++) {
      const [from, to] = [bench.random.below(lines) * LINE, bench.random.below(lines) * LINE];
      await bench.execute({
        PASID: pasid,
        Opcode: "MEMMOVE",
        Source: start + BigInt(from),
        Destination: start + BigInt(to),
        TransferSize: LINE,
      });
      expected.copyWithin(to, from, from + LINE);
    }
    await bench.check(`the memory after ${COPIES} copies`, memory, start, expected);
  },
};
