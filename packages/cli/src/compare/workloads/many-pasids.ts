/** Many processes share one device: each has its PASID, and none may see another's memory. */
import type { NamedWorkload } from "./named-workload.js";

const PROCESSES = 64;
const ROUNDS = 4;

export const MANY_PASIDS: NamedWorkload = {
  name: "many-pasids",
  says: `${PROCESSES} processes with the same addresses take turns on one device`,
  shares: true,
  mib: 1,
  async run(bench) {
    const processes = await bench.shared(PROCESSES);
    const each = Math.max(4096, Math.floor(bench.bytes / PROCESSES / 4096) * 4096);
    const states = [];
    for (const { memory, pasid } of processes) {
      const bytes = bench.bytesAtRandom(each);
      const source = await memory.mmap({ length: each });
      const target = await memory.mmap({ length: each });
      await memory.write(source, bytes);
      states.push({ memory, pasid, bytes, source, target });
    }
    for (let round = 0; round < ROUNDS; round++) {
      await bench.executeAll(
        states.map(({ pasid, source, target }) => ({
          PASID: pasid,
          Opcode: "MEMMOVE",
          Source: source,
          Destination: target,
          TransferSize: each,
        })),
      );
    }
    for (const [n, { memory, target, bytes }] of states.entries())
      await bench.check(`process ${n + 1} finds its own bytes`, memory, target, bytes);
  },
};
