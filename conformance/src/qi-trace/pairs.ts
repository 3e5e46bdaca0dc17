/** Which mapping each unmap took away: the latest of its very range, or else the latest that tile it. */
import type { Mapping, MapStep, Range, UnmapStep } from "./steps.js";

interface Open {
  readonly step: MapStep;
  readonly part: Mapping;
}

export interface Contradiction {
  readonly map: MapStep;
  readonly unmap: UnmapStep;
}

const endOf = ({ part }: Open): bigint => part.iova + part.size;

export class Pairs {
  /** Mappings that nothing has taken away, by IOVA. */
  readonly #open = new Map<bigint, Open[]>();
  readonly #suspects: { readonly tiles: readonly Open[]; readonly unmap: UnmapStep }[] = [];

  map(step: MapStep): void {
    for (const part of step.parts) {
      const here = this.#open.get(part.iova);
      if (here) here.push({ step, part });
      else this.#open.set(part.iova, [{ step, part }]);
    }
  }

  /** Tells the mappings the domain of the unmap, or the unmap that of its mappings, where one of them is not known. */
  unmap(unmap: UnmapStep): void {
    for (const part of unmap.parts) {
      const tiles = this.#tiles(part, ({ step: { did } }) => (did ?? unmap.did) === (unmap.did ?? did));
      if (tiles) this.#take(tiles, unmap);
      else this.#suspect(part, unmap);
    }
  }

  #take(tiles: readonly Open[], unmap: UnmapStep): void {
    for (const open of tiles) {
      const here = this.#open.get(open.part.iova);
      here?.splice(here.indexOf(open), 1);
      unmap.did ??= open.step.did;
      open.step.did ??= unmap.did;
    }
  }

  /** The latest mappings that make up the range; undefined when something of it is not mapped. */
  #tiles({ iova, size }: Range, may: (open: Open) => boolean): Open[] | undefined {
    const end = iova + size;
    const tiles: Open[] = [];
    for (let at = iova; at < end; ) {
      const here = (this.#open.get(at) ?? []).filter((open) => may(open) && endOf(open) <= end);
      const open = here.findLast((candidate) => endOf(candidate) === end) ?? here.at(-1);
      if (!open) return undefined;
      tiles.push(open);
      at = endOf(open);
    }
    return tiles;
  }

  #suspect(range: Range, unmap: UnmapStep): void {
    const tiles = this.#tiles(range, () => true);
    if (tiles) this.#suspects.push({ tiles, unmap });
  }

  /**
   * Unmaps of what was mapped under another domain-id, and what nothing else has taken away. In a file that begins in the
   * middle, it may have been a mapping from before that.
   */
  contradictions(): Contradiction[] {
    const left = new Set([...this.#open.values()].flat());
    return this.#suspects
      .filter(({ tiles }) => tiles.every((open) => left.has(open)))
      .map(({ tiles: [{ step }], unmap }) => ({ map: step, unmap }));
  }
}
