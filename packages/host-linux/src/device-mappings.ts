/** BARs that a running process has mapped: which addresses show which physical pages. A forked child has them as well. */
import { type FileMapping, PAGE_SIZE } from "@iommukit/core";

/** A mapping of a file, shared by every process that inherited it. */
export class SharedMapping {
  #users = 1;

  constructor(
    private readonly mapping: FileMapping,
    readonly writable: boolean,
    private readonly closed: () => void,
  ) {}

  /** Physical address of the page at that byte offset; undefined: nothing answers. */
  page(offset: number): number | undefined {
    return this.mapping.page(offset);
  }

  get(): this {
    this.#users++;
    return this;
  }

  put(): void {
    if (--this.#users > 0) return;
    this.mapping.close();
    this.closed();
  }
}

interface Entry {
  readonly start: bigint;
  readonly end: bigint;
  readonly mapping: SharedMapping;
  /** Byte of the mapping at `start`. */
  readonly offset: bigint;
}

export class DeviceMappings {
  #entries: Entry[] = [];

  add(start: bigint, length: bigint, mapping: SharedMapping): void {
    this.#entries.push({ start, end: start + length, mapping, offset: 0n });
  }

  /** Unmaps a range; what is left of a mapping on either side of it stays. */
  remove(start: bigint, end: bigint): void {
    this.#entries = this.#entries.flatMap((entry) => {
      if (entry.end <= start || entry.start >= end) return [entry];
      const left = entry.start < start ? [{ ...entry, end: start, mapping: entry.mapping.get() }] : [];
      const right =
        entry.end > end
          ? [{ ...entry, start: end, offset: entry.offset + end - entry.start, mapping: entry.mapping.get() }]
          : [];
      entry.mapping.put();
      return [...left, ...right];
    });
  }

  has(address: bigint): boolean {
    return this.#find(address) !== undefined;
  }

  /** Physical address of the page that holds `address`; undefined when it may not be accessed so, or nothing answers. */
  page(address: bigint, write: boolean): number | undefined {
    const entry = this.#find(address);
    if (!entry || (write && !entry.mapping.writable)) return undefined;
    const offset = Number(address - entry.start + entry.offset);
    return entry.mapping.page(offset - (offset % PAGE_SIZE));
  }

  #find(address: bigint): Entry | undefined {
    return this.#entries.find(({ start, end }) => address >= start && address < end);
  }

  /** fork: the child has the same mappings. */
  clone(): DeviceMappings {
    const copy = new DeviceMappings();
    copy.#entries = this.#entries.map((entry) => ({ ...entry, mapping: entry.mapping.get() }));
    return copy;
  }

  clear(): void {
    for (const { mapping } of this.#entries) mapping.put();
    this.#entries = [];
  }
}
