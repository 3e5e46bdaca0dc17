/** Copies memory to memory, in order, in small pages and in huge ones. */
import type { Bench } from "./bench.js";
import { PIECE } from "./bench.js";
import type { NamedWorkload } from "./named-workload.js";

async function copy(bench: Bench, huge: boolean): Promise<void> {
  const [{ memory, pasid }] = await bench.shared(1);
  const bytes = bench.bytesAtRandom(bench.bytes);
  const source = await memory.mmap({ length: bytes.length });
  const target = await memory.mmap({ length: bytes.length });
  if (huge) for (const address of [source, target]) await memory.madvise(address, bytes.length, "hugepage");
  await memory.write(source, bytes);
  const pieces = Array.from({ length: Math.ceil(bytes.length / PIECE) }, (_, n) => n * PIECE);
  await bench.executeAll(
    pieces.map((at) => ({
      PASID: pasid,
      Opcode: "MEMMOVE",
      Source: source + BigInt(at),
      Destination: target + BigInt(at),
      TransferSize: Math.min(PIECE, bytes.length - at),
    })),
  );
  await bench.check("the copy, as the process reads it", memory, target, bytes);
  await bench.check("the source is as it was", memory, source, bytes);
}

export const COPY: NamedWorkload = {
  name: "copy",
  says: "memory to memory, in order; pages are faulted in by the device",
  shares: true,
  mib: 4,
  run: (bench) => copy(bench, false),
};

export const HUGE_PAGES: NamedWorkload = {
  name: "huge-pages",
  says: "the same in memory for which the process asks huge pages",
  shares: true,
  mib: 16,
  run: (bench) => copy(bench, true),
};
