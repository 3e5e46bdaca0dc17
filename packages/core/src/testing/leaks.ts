/** What a machine holds: pages by owner, and the SVA core's books. For checks that something gave back what it took. */
import type { PageAllocator } from "../memory/page-allocator.js";
import type { Sva } from "../sva/sva.js";

/** A Platform, or the parts of one. */
export interface Machine {
  readonly pages: PageAllocator;
  readonly sva?: Pick<Sva, "inUse">;
}

/**
 * Notes what is in use now. @returns a function that lists, as sentences, what is in use beyond that: an empty list when
 * nothing leaked. Without a running IOMMU take the note first thing; then it is simply what is in use.
 */
export function leakCheck({ pages, sva }: Machine): () => string[] {
  const pagesBefore = pages.usage();
  const before = books(sva);
  return () => {
    const leaks: string[] = [];
    for (const [owner, count] of pages.usage()) {
      const more = count - (pagesBefore.get(owner) ?? 0);
      if (more > 0) leaks.push(`${more} pages of ${owner}`);
    }
    for (const [what, count] of Object.entries(books(sva))) {
      const more = count - (before[what] ?? 0);
      if (more > 0) leaks.push(`${more} ${what}`);
    }
    return leaks;
  };
}

/** Throws with the list when something is in use beyond what `check` noted. */
export function expectNoLeaks(check: () => string[]): void {
  const leaks = check();
  if (leaks.length > 0) throw new Error(`leaked: ${leaks.join(", ")}`);
}

function books(sva: Machine["sva"]): Readonly<Record<string, number>> {
  return { ...sva?.inUse() };
}
