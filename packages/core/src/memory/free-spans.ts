/** Free memory in ranges of any size, lowest first. Neighbours are one range. */

interface Span {
  readonly from: number;
  readonly end: number;
}

export class FreeSpans {
  #spans: Span[] = [];
  /** Added since they were put in order. */
  #added: Span[] = [];

  /** @param end first byte after it */
  add(from: number, end: number): void {
    if (from < end) this.#added.push({ from, end });
  }

  /** The lowest aligned `bytes` that fit; undefined when none do. */
  take(bytes: number, align: number): number | undefined {
    this.#join();
    for (const [index, { from, end }] of this.#spans.entries()) {
      const at = Math.ceil(from / align) * align;
      if (at + bytes > end) continue;
      const rest = [
        { from, end: at },
        { from: at + bytes, end },
      ];
      this.#spans.splice(index, 1, ...rest.filter((span) => span.from < span.end));
      return at;
    }
    return undefined;
  }

  #join(): void {
    if (this.#added.length === 0) return;
    const joined: Span[] = [];
    for (const span of [...this.#spans, ...this.#added].sort((a, b) => a.from - b.from)) {
      const last = joined.at(-1);
      if (last?.end === span.from) joined[joined.length - 1] = { from: last.from, end: span.end };
      else joined.push(span);
    }
    this.#spans = joined;
    this.#added = [];
  }
}
