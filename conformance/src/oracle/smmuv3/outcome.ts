/** What one transfer did on both sides. */
import type { Reply } from "../qtest.js";

/** One table entry that the model read for the transfer. */
export interface TableRead {
  /** "STE", "CD", "S1 L2", … */
  readonly table: string;
  readonly index: number;
  readonly value: bigint;
}

/** STE, CD and level 1 stream table descriptor as they stand in memory. */
export interface Configuration {
  readonly ste: Int32Array;
  readonly cd: Int32Array;
  readonly level1: Int32Array | null;
}

export class Outcome {
  /** Contents of the place that the transfer went to, or of what was read; null when nothing can be looked at. */
  expected: number | null = null;
  got: Reply | null = null;
  modelEvents: Int32Array[] = [];
  qemuEvents!: { readonly count: Reply; readonly record: Reply };

  constructor(
    readonly iova: bigint,
    readonly write: boolean,
    /** TranslationStatus of the model. */
    readonly status: number,
    readonly pa: number,
    /** Table entries that the model read for it, in order. */
    readonly reads: readonly TableRead[],
    /** The same for the whole case up to here: what may be cached. */
    readonly history: readonly TableRead[],
    /** What may be in force: more than one after a change without invalidation. */
    readonly configurations: readonly Configuration[],
  ) {}

  /** QEMU's record; null when it wrote none. */
  get qemuEvent(): Int32Array | null {
    if (this.qemuEvents.count.value === 0) return null;
    const { bytes } = this.qemuEvents.record;
    return Int32Array.from({ length: 8 }, (_, i) => bytes.readInt32LE(i * 4));
  }

  get modelEvent(): Int32Array | null {
    return this.modelEvents[0] ?? null;
  }

  /** Event numbers; 0 for none. */
  get modelId(): number {
    return (this.modelEvent?.[0] ?? 0) & 0xff;
  }

  get qemuId(): number {
    return (this.qemuEvent?.[0] ?? 0) & 0xff;
  }
}
