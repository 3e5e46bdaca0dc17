/** The small pieces that the hot paths are made of, each alone, with mitata. */
import { join64, SlabMemory, Tracer } from "@iommukit/core";
import { CD, STE } from "@iommukit/iommu-smmuv3";
import { measure } from "mitata";

export interface PieceRow {
  readonly piece: string;
  /** Nanoseconds of one call in the fastest batch. */
  readonly nanoseconds: number;
}

const GIB = 2 ** 30;

function memories(): Record<string, () => unknown> {
  const base = 0x1_0000_0000;
  const whole = new SlabMemory([{ base, size: GIB }]);
  const slabs = new SlabMemory([{ base, size: 64 * GIB }]);
  const word = (memory: SlabMemory) => {
    const words = memory.view(1, 0x1000, 2);
    return words === null ? 0 : words[memory.viewAt];
  };
  return {
    "memory: a word by view(), 1 GiB of RAM": () => word(whole),
    "memory: a word by view(), 64 GiB of RAM": () => word(slabs),
    "memory: load64()": () => whole.load64(base),
    "memory: store64()": () => whole.store64(base, 1, 2),
  };
}

function entries(): Record<string, () => unknown> {
  const ste = STE.encode({ V: true, Config: "s1", S1CDMax: 4 });
  return {
    "field: STE.Config.get": () => STE.Config.get(ste, 0),
    "field: STE.S1ContextPtr.lo": () => STE.S1ContextPtr.lo(ste, 0),
    "layout: CD.decode, every field": () => CD.decode(ste),
    "address: join64": () => join64(1, 2),
  };
}

function tracers(): Record<string, () => unknown> {
  const emit = (trace: Tracer) => () => {
    if (trace.enabled) trace.emit("config:hit", { unit: "smmuv3", cache: "STE", rid: 8, pasid: 1 });
  };
  const [silent, other, named, all] = [0, 1, 2, 3].map(() => new Tracer(() => 0));
  other.on("log:printed", () => {});
  named.on("config:hit", () => {});
  all.subscribe(() => {});
  return {
    "trace: an event, no listener": emit(silent),
    "trace: an event, one listener to another": emit(other),
    "trace: an event, one listener to it": emit(named),
    "trace: an event, one listener to every event": emit(all),
  };
}

export async function pieces(): Promise<PieceRow[]> {
  const rows: PieceRow[] = [];
  for (const [piece, body] of Object.entries({ ...memories(), ...entries(), ...tracers() })) {
    const { min } = await measure(body, { batch_samples: 1024, min_cpu_time: 300e6 });
    rows.push({ piece, nanoseconds: min });
  }
  return rows;
}
