/**
 * What has to be invalidated when a domain's tables change: IOTLB tags and ATCs, sorted, each with the number of users that
 * share it (arm_smmu_invs). Attaching merges a device's items in, detaching takes references away; an item without users stays
 * as trash until the next merge or purge, so that giving up a reference never fails.
 */

/** INV_TYPE_*, in Linux's order. Nested parents bring S2_VMID_S1_CLEAR and ATS_FULL: recorded arrays have them, domains here none. */
export const InvalidationType = { S1_ASID: 0, S2_VMID: 1, S2_VMID_S1_CLEAR: 2, ATS: 3, ATS_FULL: 4 } as const;

/** One tag or ATC to invalidate, and how many share it. */
export interface InvalidationItem {
  /** InvalidationType. */
  readonly type: number;
  /** ASID, VMID or StreamID. */
  readonly id: number;
  /** SubstreamID of an ATC's entries; 0 for the others. */
  readonly ssid: number;
}

interface Counted extends InvalidationItem {
  users: number;
}

function isAts({ type }: InvalidationItem): boolean {
  return type === InvalidationType.ATS || type === InvalidationType.ATS_FULL;
}

/** IOTLB tags come before ATCs; among ATCs the substream tells entries of one device apart. */
function compare(a: InvalidationItem, b: InvalidationItem): number {
  return a.type - b.type || a.id - b.id || (isAts(a) ? a.ssid - b.ssid : 0);
}

function counted({ type, id, ssid }: InvalidationItem, users: number): Counted {
  return { type, id, ssid, users };
}

/** One domain's items. */
export class InvalidationArray {
  #items: readonly Counted[] = [];

  /** Items with their users; trash, with users = 0, only between live ones. */
  get items(): readonly Readonly<Counted>[] {
    return this.#items;
  }

  /** The items that somebody uses. */
  get live(): readonly InvalidationItem[] {
    return this.#items.every(({ users }) => users > 0) ? this.#items : this.#items.filter(({ users }) => users > 0);
  }

  get trashes(): number {
    return this.#items.filter(({ users }) => users === 0).length;
  }

  /** Takes a reference to each item; drops trash. */
  merge(added: readonly InvalidationItem[]): void {
    const merged = this.#items.filter(({ users }) => users > 0).map((item) => counted(item, item.users));
    for (const item of added) {
      const known = merged.find((other) => compare(other, item) === 0);
      if (known) known.users++;
      else merged.push(counted(item, 1));
    }
    this.#items = merged.sort(compare);
  }

  /**
   * Gives a reference to each item back. Trash at the end goes at once.
   * @returns the items that nobody uses any more
   */
  unref(removed: readonly InvalidationItem[]): readonly InvalidationItem[] {
    const gone: InvalidationItem[] = [];
    for (const item of removed) {
      const known = this.#items.find((other) => other.users > 0 && compare(other, item) === 0);
      if (!known) throw new Error(`invalidation ${item.type}/${item.id}/${item.ssid} is not in the array`);
      if (--known.users === 0) gone.push(item);
    }
    const last = this.#items.findLastIndex(({ users }) => users > 0);
    this.#items = this.#items.slice(0, last + 1);
    return gone;
  }

  /** Drops the trash. */
  purge(): void {
    this.#items = this.#items.filter(({ users }) => users > 0);
  }
}
