/**
 * Address spaces of a trace. iommu:map and iommu:unmap name no domain; with the kprobes each domain is a space. Without them
 * mappings that overlap must be of different domains: each goes to the first space where it fits.
 */
import { MappedPages } from "./mapped-pages.js";
import type { TraceEvent } from "./trace-line.js";

export class Spaces {
  readonly #spaces: MappedPages[] = [];
  readonly #byDomain = new Map<string, number>();
  /** Unmaps that could be of several spaces: the first one is taken. */
  ambiguous = 0;
  /** Unmaps of ranges that the trace did not map: from before it began. */
  unknown = 0;

  get count(): number {
    return this.#spaces.length;
  }

  /** The event's space; undefined for an unmap of what was never mapped. */
  of(event: TraceEvent): number | undefined {
    const index = event.domain === undefined ? this.#fit(event) : this.#named(event, event.domain);
    if (index === undefined) {
      this.unknown++;
      return undefined;
    }
    if (event.kind === "map") this.#spaces[index].add(event.iova, event.size);
    else this.#spaces[index].remove(event.iova, event.size);
    return index;
  }

  #named(event: TraceEvent, domain: string): number | undefined {
    const known = this.#byDomain.get(domain);
    const index = known ?? this.#open();
    if (known === undefined) this.#byDomain.set(domain, index);
    const space = this.#spaces[index];
    const fits = event.kind === "map" ? !space.overlaps(event.iova, event.size) : space.covers(event.iova, event.size);
    return fits ? index : this.#fit(event);
  }

  #fit({ kind, iova, size }: TraceEvent): number | undefined {
    if (kind === "map") {
      const free = this.#spaces.findIndex((space) => !space.overlaps(iova, size));
      return free < 0 ? this.#open() : free;
    }
    const holding = this.#spaces.flatMap((space, n) => (space.covers(iova, size) ? [n] : []));
    if (holding.length > 1) this.ambiguous++;
    return holding.at(0);
  }

  #open(): number {
    return this.#spaces.push(new MappedPages()) - 1;
  }
}
