/**
 * Address spaces of a trace. iommu:map and iommu:unmap name no domain; with the kprobes each domain is a space. Without them
 * mappings that overlap must be of different domains: each goes to the first space where it fits. A space has a device's name
 * where the trace says whose it is: an attachment behind its kprobe, or dma:* events, which follow the mapping on its CPU.
 */
import { MappedPages } from "./mapped-pages.js";
import type { TraceEvent, TraceItem } from "./trace-line.js";

/** dma:* events that say the same before a space is taken to be the device's. */
const ENOUGH = 8;

interface Space {
  readonly mapped: MappedPages;
  /** How often an event named each device; the one named most is the space's. */
  readonly devices: Map<string, number>;
}

export class Spaces {
  readonly #spaces: Space[] = [];
  readonly #byDomain = new Map<string, number>();
  /** Where the last mapping of each CPU went, until its space has a name. */
  readonly #lastMap = new Map<number, number>();
  /** Unmaps that could be of several spaces: the first one is taken. */
  ambiguous = 0;
  /** Unmaps of ranges that the trace did not map: from before it began. */
  unknown = 0;

  get count(): number {
    return this.#spaces.length;
  }

  layout(space: number): MappedPages {
    return this.#spaces[space].mapped;
  }

  /** The event's space; undefined for an unmap of what was never mapped. */
  of(event: TraceEvent): number | undefined {
    const index = event.domain === undefined ? this.#fit(event) : this.#named(event, event.domain);
    if (index === undefined) {
      this.unknown++;
      return undefined;
    }
    const { mapped } = this.#spaces[index];
    if (event.kind === "map") {
      mapped.add(event.page, event.pages);
      this.#lastMap.set(event.cpu, index);
    } else mapped.remove(event.page, event.pages);
    return index;
  }

  /** What an event says of whose space it is. */
  hears(item: Extract<TraceItem, { kind: "attach" | "dma" }>): void {
    if (item.kind === "attach") {
      if (item.domain !== undefined) this.#spaces[this.#ofDomain(item.domain)].devices.set(item.device, ENOUGH);
      return;
    }
    const space = this.#spaces[this.#lastMap.get(item.cpu) ?? -1];
    const said = space?.devices.get(item.device) ?? 0;
    if (said < ENOUGH && space?.mapped.has(item.page)) space.devices.set(item.device, said + 1);
  }

  /** The device whose space it is; undefined when nothing named one. */
  device(index: number): string | undefined {
    const named = [...this.#spaces[index].devices].sort(([, a], [, b]) => b - a);
    return named.at(0)?.[0];
  }

  #named(event: TraceEvent, domain: string): number | undefined {
    const index = this.#ofDomain(domain);
    const { mapped } = this.#spaces[index];
    const fits =
      event.kind === "map" ? !mapped.overlaps(event.page, event.pages) : mapped.covers(event.page, event.pages);
    return fits ? index : this.#fit(event);
  }

  #ofDomain(domain: string): number {
    const known = this.#byDomain.get(domain);
    if (known !== undefined) return known;
    const opened = this.#open();
    this.#byDomain.set(domain, opened);
    return opened;
  }

  #fit(event: TraceEvent): number | undefined {
    const first = this.#fitsFrom(0, event);
    const found = first < this.#spaces.length;
    if (event.kind === "map") return found ? first : this.#open();
    if (!found) return undefined;
    if (this.#fitsFrom(first + 1, event) < this.#spaces.length) this.ambiguous++;
    return first;
  }

  /** The first space from `at` on that the event fits; their number when there is none. */
  #fitsFrom(at: number, { kind, page, pages }: TraceEvent): number {
    for (let n = at; n < this.#spaces.length; n++) {
      const { mapped } = this.#spaces[n];
      if (kind === "map" ? !mapped.overlaps(page, pages) : mapped.covers(page, pages)) return n;
    }
    return this.#spaces.length;
  }

  #open(): number {
    return this.#spaces.push({ mapped: new MappedPages(), devices: new Map() }) - 1;
  }
}
