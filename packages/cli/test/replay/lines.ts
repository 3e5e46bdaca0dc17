/** Lines of a trace, and a replay of them. */
import { parseBackend } from "../../src/backends.js";
import type { Access } from "../../src/replay/access-pattern.js";
import { configurations, type Mode, type Pages } from "../../src/replay/configuration.js";
import { Replayer, type ReplayWatcher } from "../../src/replay/replay.js";
import type { Replay } from "../../src/replay/report.js";

const hex = (value: number) => `0x${value.toString(16).padStart(16, "0")}`;

export const map = (iova: number, size = 0x1000, paddr = 0x4000_0000) =>
  `  init-1  [000] .....  1.000001: map: IOMMU: iova=${hex(iova)} - ${hex(iova + size)} paddr=${hex(paddr)} size=${size}`;

export const unmap = (iova: number, size = 0x1000) =>
  `  init-1  [000] .....  1.000002: unmap: IOMMU: iova=${hex(iova)} - ${hex(iova + size)} size=${size} unmapped_size=${size}`;

export const probe = (kind: "map" | "unmap", domain: number, iova: number) =>
  `  init-1  [000] d....  1.000000: iommu_${kind}: (__iommu_${kind}+0x0/0x290) domain=0xffff${domain} iova=0x${iova.toString(16)} size=0x1000`;

export const phase = (name: string) => `  init-1  [000] .....  1.000001: tracing_mark_write: PHASE ${name}`;

export interface ReplayOptions {
  readonly backends?: readonly string[];
  readonly modes?: readonly Mode[];
  readonly pages?: readonly Pages[];
  readonly access?: Access;
  readonly watcher?: ReplayWatcher;
  /** Lines that are read at a time. */
  readonly piece?: number;
}

export async function replay(lines: Iterable<string>, options: ReplayOptions = {}): Promise<Replay> {
  const { backends = ["smmuv3", "vtd"], modes = ["strict"], pages = ["huge"], access, watcher, piece = 1024 } = options;
  const columns = configurations(backends.map(parseBackend), modes, pages, access);
  const replayer = await Replayer.start(columns, watcher);
  let text = "";
  let count = 0;
  for (const line of lines) {
    text += `${line}\n`;
    if (++count % piece > 0) continue;
    await replayer.read(Buffer.from(text));
    text = "";
  }
  await replayer.read(Buffer.from(text));
  return replayer.finish();
}
