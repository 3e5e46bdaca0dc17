/**
 * What a device reads of the mappings: the trace does not say, so it is assumed, by name. One access is one untranslated read
 * at the start of a 4 KiB page; every pattern makes as many as there are pages mapped, each while its page is mapped.
 */

export const ACCESS_PATTERNS = {
  "in-order": "as soon as a range is mapped its pages are read once each, upwards",
  reversed: "as soon as a range is mapped its pages are read once each, downwards",
  random:
    "as soon as a range is mapped as many pages as it has are read, each from a mapping of the address space drawn at random",
  ring: "mappings wait in a ring, 256 for each address space: the oldest is read upwards when the ring is full, and all up to a mapping before it is unmapped",
} as const;

export type AccessName = keyof typeof ACCESS_PATTERNS;

export interface Access {
  readonly pattern: AccessName;
  /** Of "random". */
  readonly seed: number;
}

/** Of one address space. */
export interface Accesses {
  mapped(page: number, pages: number): void;
  /** Before the pages are unmapped. */
  unmapping(page: number, pages: number): void;
}

interface Mapping {
  page: number;
  pages: number;
}

const RING = 256;

/** @param random a number below its argument @param touch reads a page */
export function accesses(
  pattern: AccessName,
  random: (below: number) => number,
  touch: (page: number) => void,
): Accesses {
  switch (pattern) {
    case "in-order":
      return { mapped: (page, pages) => upwards({ page, pages }, touch), unmapping: () => {} };
    case "reversed":
      return {
        mapped: (page, pages) => {
          for (let at = page + pages - 1; at >= page; at--) touch(at);
        },
        unmapping: () => {},
      };
    case "random":
      return new RandomAccesses(random, touch);
    case "ring":
      return new RingAccesses(touch);
  }
}

function upwards({ page, pages }: Mapping, touch: (page: number) => void): void {
  for (let at = page; at < page + pages; at++) touch(at);
}

function overlap(a: Mapping, page: number, pages: number): boolean {
  return a.page < page + pages && page < a.page + a.pages;
}

class RandomAccesses implements Accesses {
  readonly #live: Mapping[] = [];
  /** Where in the list a mapping is, by its first page. */
  readonly #at = new Map<number, number>();

  constructor(
    private readonly random: (below: number) => number,
    private readonly touch: (page: number) => void,
  ) {}

  mapped(page: number, pages: number): void {
    this.#add({ page, pages });
    for (let n = 0; n < pages; n++) {
      const mapping = this.#live[this.random(this.#live.length)];
      this.touch(mapping.page + this.random(mapping.pages));
    }
  }

  unmapping(page: number, pages: number): void {
    const index = this.#at.get(page);
    if (index !== undefined && this.#live[index].pages === pages) {
      this.#remove(index);
      return;
    }
    // Part of a mapping, or several: rare enough to look for them.
    for (const mapping of this.#live.filter((each) => overlap(each, page, pages))) {
      this.#remove(this.#live.indexOf(mapping));
      if (mapping.page < page) this.#add({ page: mapping.page, pages: page - mapping.page });
      const end = mapping.page + mapping.pages;
      if (end > page + pages) this.#add({ page: page + pages, pages: end - page - pages });
    }
  }

  #add(mapping: Mapping): void {
    this.#at.set(mapping.page, this.#live.push(mapping) - 1);
  }

  /** The last one takes its place. */
  #remove(index: number): void {
    const gone = this.#live[index];
    const last = this.#live.pop();
    this.#at.delete(gone.page);
    if (last === undefined || last === gone) return;
    this.#live[index] = last;
    this.#at.set(last.page, index);
  }
}

class RingAccesses implements Accesses {
  readonly #ring: Mapping[] = [];

  constructor(private readonly touch: (page: number) => void) {}

  mapped(page: number, pages: number): void {
    if (this.#ring.length === RING) this.#read(1);
    this.#ring.push({ page, pages });
  }

  unmapping(page: number, pages: number): void {
    this.#read(this.#ring.findLastIndex((mapping) => overlap(mapping, page, pages)) + 1);
  }

  /** The oldest ones. */
  #read(count: number): void {
    for (const mapping of this.#ring.splice(0, count)) upwards(mapping, this.touch);
  }
}
