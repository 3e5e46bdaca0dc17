/** Follows a linked list whose nodes lie one to a page in random order: every access depends on the one before. */
import type { NamedWorkload } from "./named-workload.js";

const PAGE = 4096;

export const CHASE: NamedWorkload = {
  name: "chase",
  says: "a linked list, one node a page, in random order; walked twice",
  shares: true,
  mib: 4,
  async run(bench) {
    const [{ memory, pasid }] = await bench.shared(1);
    const nodes = Math.floor(bench.bytes / PAGE);
    const start = await memory.mmap({ length: nodes * PAGE });
    const order = Array.from({ length: nodes }, (_, n) => n);
    for (let n = nodes - 1; n > 0; n--) {
      const other = bench.random.below(n + 1);
      [order[n], order[other]] = [order[other], order[n]];
    }
    const address = (node: number) => start + BigInt(node * PAGE);
    const expected = new Uint8Array(nodes * PAGE);
    const view = new DataView(expected.buffer);
    for (const [n, node] of order.entries())
      view.setBigUint64(node * PAGE, n === nodes - 1 ? 0n : address(order[n + 1]), true);
    for (const node of order) await memory.write(address(node), expected.subarray(node * PAGE, node * PAGE + 8));
    for (const round of ["first", "second"]) {
      const record = await bench.execute(
        { PASID: pasid, Opcode: "POINTER_CHASE", Source: address(order[0]), TransferSize: nodes },
        nodes * 8,
      );
      const last = BigInt(record.OperationResult);
      bench.agree(
        `${round} walk ends at the last of ${nodes} nodes`,
        last === address(order[nodes - 1]) && record.BytesCompleted === nodes,
        `at 0x${last.toString(16)} after ${record.BytesCompleted}`,
      );
    }
    await bench.check("the list is as it was", memory, start, expected);
  },
};
