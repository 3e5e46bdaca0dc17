/** A receive ring as a network driver has it, without PASID: each buffer is mapped, written by the device, unmapped. */
import { DmaMapFlags } from "@iommukit/vfio-type1";
import type { NamedWorkload } from "./named-workload.js";

const SLOTS = 64;
const PACKET = 1536;
/** The device's own packets, mapped for good, and the ring. */
const WIRE_IOVA = 0x1000_0000n;
const RING_IOVA = 0x2000_0000n;

export const RING: NamedWorkload = {
  name: "ring",
  says: `a receive ring of ${SLOTS} buffers without PASID: map, device writes, unmap`,
  shares: false,
  mib: 4,
  async run(bench) {
    const { machine } = bench;
    const { memory, container } = machine.program;
    const page = machine.granule === 0 ? 4096 : machine.granule;
    const stride = BigInt(page);
    const wire = await machine.buffer(SLOTS * page);
    const ring = await machine.buffer(SLOTS * page);
    const packets = bench.bytesAtRandom(SLOTS * page);
    await memory.write(wire, packets);
    await container.mapDma({ iova: WIRE_IOVA, vaddr: wire, size: SLOTS * page, flags: DmaMapFlags.READ });
    await bench.unshared();
    const expected = new Uint8Array(SLOTS * page);
    for (let round = 0; round < Math.ceil(bench.bytes / (SLOTS * 4096)); round++) {
      for (let n = 0n; n < SLOTS; n++)
        await container.mapDma({ iova: RING_IOVA + n * stride, vaddr: ring + n * stride, size: page });
      await bench.executeAll(
        Array.from({ length: SLOTS }, (_, n) => {
          const from = (n + round) % SLOTS;
          expected.set(packets.subarray(from * page, from * page + PACKET), n * page);
          return {
            Opcode: "MEMMOVE" as const,
            Source: WIRE_IOVA + BigInt(from) * stride,
            Destination: RING_IOVA + BigInt(n) * stride,
            TransferSize: PACKET,
          };
        }),
      );
      for (let n = 0n; n < SLOTS; n++) await container.unmapDma({ iova: RING_IOVA + n * stride, size: page });
    }
    await bench.check("the packets in the ring", memory, ring, expected);
    await container.unmapDma({ iova: WIRE_IOVA, size: SLOTS * page });
  },
};
