/** Puts a function's memory BARs on the system bus where software has placed them, while its memory space is enabled. */
import type { PciBar, SystemBus } from "@iommukit/core";

/** The function behind the BARs. */
export interface BarTarget {
  readonly bdf: string;
  readonly bars: readonly PciBar[];
  readonly present: boolean;
  readonly memorySpaceEnabled: boolean;
  /** Where a BAR is now; 0 when it has not been placed. */
  addressOf(bar: PciBar): number;
  readBar(bar: number, offset: number, into: Uint8Array): boolean;
  writeBar(bar: number, offset: number, bytes: Uint8Array): boolean;
}

/** Physical addresses have at most 52 bits. */
const LIMIT = 2 ** 52;

/** One function's BARs on the bus. */
export class BarDecoder {
  readonly #attached = new Map<number, { readonly base: number; readonly detach: () => void }>();

  constructor(
    private readonly target: BarTarget,
    private readonly bus: SystemBus,
  ) {}

  /** Follows the command register and the BARs. A range that something else decodes stays the other's. */
  update(): void {
    const { bars, present, memorySpaceEnabled } = this.target;
    const enabled = present && memorySpaceEnabled;
    for (const bar of bars) {
      if (bar.kind === "io" || bar.index === 6) continue;
      const base = enabled ? this.target.addressOf(bar) : 0;
      const current = this.#attached.get(bar.index);
      if ((current?.base ?? 0) === base) continue;
      current?.detach();
      this.#attached.delete(bar.index);
      if (base === 0 || base + bar.size > LIMIT || !this.bus.isFree(base, bar.size)) continue;
      this.#attached.set(bar.index, { base, detach: this.#attach(bar, base) });
    }
  }

  #attach({ index, size }: PciBar, base: number): () => void {
    return this.bus.attach({
      name: `${this.target.bdf} BAR${index}`,
      base,
      size,
      read: (offset, into) => this.target.readBar(index, offset, into),
      write: (offset, bytes) => this.target.writeBar(index, offset, bytes),
    });
  }
}

/** The address in a base address register. @param index word index */
export function barAddress(words: Int32Array, index: number, { kind }: PciBar): number {
  const low = (words[index] & (kind === "io" ? ~3 : ~15)) >>> 0;
  return kind === "mem64" ? (words[index + 1] >>> 0) * 2 ** 32 + low : low;
}
