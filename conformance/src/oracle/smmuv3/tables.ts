/** Random translation tables as a map from descriptor address to value, written to both sides at once. */
import { S1_DESCRIPTOR, S2_DESCRIPTOR, TABLE_DESCRIPTOR } from "@iommukit/iommu-smmuv3";
import type { Pair } from "./pair.js";

export type Values = Readonly<Record<string, number | bigint | boolean | string>>;

/** One table: where it starts and how it is walked. */
export interface Geometry {
  readonly root: number;
  readonly granule: number;
  readonly bits: number;
  readonly startLevel: number;
}

export class Tables {
  readonly descriptors = new Map<number, bigint>();
  /** Addresses of leaf descriptors, and of all others. */
  readonly leaves: number[] = [];
  readonly branches: number[] = [];
  /** Leaves above level 3. */
  readonly blocks = new Set<number>();
  #next: number;

  /**
   * @param spacing distance of tables in memory
   * @param point what a table descriptor says of the table at a physical address: the address itself, or its IPA
   */
  constructor(
    private readonly stage: 1 | 2,
    first: number,
    private readonly spacing: number,
    private readonly point: (pa: number) => bigint,
  ) {
    this.#next = first;
  }

  allocate(): number {
    const at = this.#next;
    this.#next += this.spacing;
    return at;
  }

  /** Maps the page or block at `level` around `va`; `branch` gives the attributes of each table above it. */
  map(
    { root, granule, bits, startLevel }: Geometry,
    va: bigint,
    level: number,
    output: bigint,
    leaf: Values,
    branch: () => Values,
  ): void {
    const layout = this.stage === 1 ? S1_DESCRIPTOR : S2_DESCRIPTOR;
    let table = root;
    for (let at = startLevel; ; at++) {
      const shift = granule + (3 - at) * (granule - 3);
      const width = at === startLevel ? bits - shift : granule - 3;
      const entry = table + Number((va >> BigInt(shift)) & ((1n << BigInt(width)) - 1n)) * 8;
      if (at === level) {
        if (at < 3) this.blocks.add(entry);
        this.#put(
          entry,
          layout.encode({ Type: at === 3 ? "tableOrPage" : "block", OutputAddress: output, ...leaf }),
          this.leaves,
        );
        return;
      }
      const next = this.#tables.get(entry);
      if (next !== undefined) {
        table = next;
        continue;
      }
      const allocated = this.allocate();
      this.#tables.set(entry, allocated);
      this.#put(
        entry,
        TABLE_DESCRIPTOR.encode({
          Type: "tableOrPage",
          NextLevelTable: this.point(allocated),
          ...(this.stage === 1 ? branch() : {}),
        }),
        this.branches,
      );
      table = allocated;
    }
  }

  readonly #tables = new Map<number, number>();

  #put(at: number, words: Int32Array, list: number[]): void {
    if (!this.descriptors.has(at)) list.push(at);
    this.descriptors.set(at, (BigInt(words[1] >>> 0) << 32n) | BigInt(words[0] >>> 0));
  }

  /** Changes a descriptor; only here, `store` writes them. */
  change(at: number, edit: (value: bigint) => bigint): void {
    this.descriptors.set(at, BigInt.asUintN(64, edit(this.descriptors.get(at) ?? 0n)));
  }

  store(pair: Pair): void {
    for (const [at, value] of this.descriptors) pair.store64(at, value);
  }

  clear(pair: Pair): void {
    for (const at of this.descriptors.keys()) pair.store64(at, 0n);
  }
}
