/** Many descriptors at once write to memory that is not there; the process throws it away, and all begins again. */
import type { NamedWorkload } from "./named-workload.js";

const REGION = 64 * 1024;
const ROUNDS = 4;

export const FAULT_STORM: NamedWorkload = {
  name: "fault-storm",
  says: "all engines write to untouched memory, which the process throws away after each round",
  shares: true,
  mib: 2,
  async run(bench) {
    const [{ memory, pasid }] = await bench.shared(1);
    const regions = Math.floor(bench.bytes / REGION);
    const start = await memory.mmap({ length: regions * REGION });
    const expected = new BigUint64Array((regions * REGION) / 8);
    for (let round = 1; round <= ROUNDS; round++) {
      const patterns = Array.from({ length: regions }, () => BigInt(bench.random.u32()) << 16n);
      await bench.executeAll(
        patterns.map((pattern, n) => ({
          PASID: pasid,
          Opcode: "MEMFILL",
          Source: pattern,
          Destination: start + BigInt(n * REGION),
          TransferSize: REGION,
        })),
      );
      for (const [n, pattern] of patterns.entries()) expected.fill(pattern, (n * REGION) / 8, ((n + 1) * REGION) / 8);
      await bench.check(`round ${round}`, memory, start, new Uint8Array(expected.buffer));
      await memory.madvise(start, regions * REGION, "dontneed");
    }
    await bench.check("thrown away: zeros", memory, start, new Uint8Array(regions * REGION));
  },
};
