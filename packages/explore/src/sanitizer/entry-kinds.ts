/** What a table entry is, by the names under which its writes stand in the trace. */
import type { EntryKind, Platform } from "@iommukit/core";

export class EntryKinds {
  /** Unit → table → kind: no name is put together for each write. */
  readonly #kinds = new Map<string, Map<string, EntryKind>>();

  constructor({ iommus }: Platform) {
    for (const { name, entries = [] } of iommus)
      this.#kinds.set(name, new Map(entries.map((kind) => [kind.layout.name, kind])));
  }

  of(by: string, table: string): EntryKind | undefined {
    return this.#kinds.get(by)?.get(table);
  }
}
