/** How the IOVAs of a trace lie at their worst: when the most pages are mapped, for each phase and for each address space. */
import type { Layout } from "./mapped-pages.js";

const NOTHING: Layout = { pages: 0, extents: 0, blocks: 0 };

export class Fragmentation {
  /** By phase, in the order of the trace. */
  readonly phases: Layout[] = [];
  /** By address space. */
  readonly spaces: Layout[] = [];
  readonly #now: Layout[] = [];
  #total = NOTHING;

  enter(): void {
    this.phases.push(this.#total);
  }

  /** The space has changed. */
  note(space: number, { pages, extents, blocks }: Layout): void {
    const before = this.#now[space] ?? NOTHING;
    this.#now[space] = { pages, extents, blocks };
    this.#total = {
      pages: this.#total.pages + pages - before.pages,
      extents: this.#total.extents + extents - before.extents,
      blocks: this.#total.blocks + blocks - before.blocks,
    };
    if (pages >= (this.spaces[space] ?? NOTHING).pages) this.spaces[space] = this.#now[space];
    const phase = this.phases.length - 1;
    if (this.#total.pages >= this.phases[phase].pages) this.phases[phase] = this.#total;
  }

  /** Of all address spaces together, over the whole trace. */
  get worst(): Layout {
    return this.phases.reduce((worst, phase) => (phase.pages > worst.pages ? phase : worst), NOTHING);
  }
}

/** Share of the entries of the last-level tables that are used; undefined when nothing is mapped. */
export function fill({ pages, blocks }: Layout): number | undefined {
  return blocks === 0 ? undefined : pages / (blocks * 512);
}
