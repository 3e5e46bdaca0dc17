/** Answers to lookups of pages, as the cases of the `iotlb` suite write them. */

/** Page and count; where they are physical, what is permitted may follow: "R", "W", "RW". */
export type Piece = readonly [number, number, string?];
export type Pieces = readonly Piece[];

const FAILURE = /fault|error|miss|fail/i;

/** What a lookup found: pieces of physical pages, and those of the asked pages that are missing or do not permit the access. */
export class Looked {
  readonly found: Piece[] = [];
  readonly miss: Piece[] = [];
  readonly forbidden: Piece[] = [];
  #rights = "";

  /** @param pa undefined for a page that is not mapped; @param rights "R", "W", "RW", "" */
  add(page: number, pa: number | undefined, rights: string, access: string): void {
    const apart = rights !== this.#rights;
    if (pa === undefined) extend(this.miss, page, rights, false);
    else if (!["R", "W"].every((right) => rights.includes(right) || !access.includes(right)))
      extend(this.forbidden, page, rights, apart);
    else extend(this.found, pa, rights, apart);
    this.#rights = rights;
  }

  /** In the form of what is expected: a page, pieces, what failed, or a word for either. */
  like(expect: unknown): unknown {
    const failed = this.miss.length + this.forbidden.length > 0 || this.found.length === 0;
    if (typeof expect === "string" && failed === FAILURE.test(expect)) return expect;
    if (this.miss.length > 0) return { miss: cut(this.miss) };
    if (failed) return { access_fail: cut(this.forbidden) };
    if (typeof expect === "number" && this.found.length === 1) return this.found[0][0];
    const [first = [0, 0]] = Array.isArray(expect) ? (expect as Pieces) : [];
    return cut(this.found, first.length);
  }
}

function cut(pieces: Pieces, length = 2): unknown {
  return pieces.map((piece) => piece.slice(0, length));
}

/** Adds a page to the last piece when it follows on it. */
function extend(pieces: Piece[], page: number, rights: string, apart: boolean): void {
  const last = pieces.at(-1);
  if (last && !apart && last[0] + last[1] === page) pieces[pieces.length - 1] = [last[0], last[1] + 1, rights];
  else pieces.push([page, 1, rights]);
}
