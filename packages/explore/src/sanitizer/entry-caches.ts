/**
 * I-7, on entries: when a driver changes an entry that is valid, every cache that may hold it forgets it, in the order that the
 * architecture names for its kind, before the same thread changes another entry. Whether an invalidation reaches far enough I-1
 * finds; this finds one that is missing, also where the cache happens to be empty.
 */
import { type EntryKind, hex, pciAtsEnabled } from "@iommukit/core";
import type { CheckerFactory } from "./checker.js";
import { EntryKinds } from "./entry-kinds.js";

interface Change {
  readonly thread: unknown;
  readonly unit: string;
  readonly kind: EntryKind;
  readonly value: bigint;
  /** Caches to be invalidated, and how many of them have been. */
  readonly caches: readonly string[];
  done: number;
}

const nameOf = (cache: string) => (cache === "ATC" || /tlb/i.test(cache) ? cache : `${cache} cache`);

export const entryCaches: CheckerFactory = ({ platform, report }) => {
  const { scheduler, memory } = platform;
  const kinds = new EntryKinds(platform);
  /** Addresses of entries that are valid, as far as they have been seen. Lasts over runs. */
  const valid = new Set<number>();
  /** By address. */
  const changes = new Map<number, Change>();

  const settle = (at: number, { unit, kind, value, caches, done }: Change) => {
    changes.delete(at);
    const cache = caches[done];
    const behind = [...platform.devices.values()].filter(({ iommu }) => iommu?.name === unit);
    // The queue may stand still behind an invalidation that a device which is gone never answers.
    if (behind.some(({ pci }) => !pci.present)) return;
    if (cache === "ATC" && !behind.some(({ pci }) => pciAtsEnabled(pci))) return;
    const after = done === 0 ? "" : `, after ${caches.slice(0, done).join(" and ")}`;
    const what = `${unit} changed the ${kind.layout.name} at ${hex(at)}, which was valid, to ${hex(value)}, and did not invalidate the ${nameOf(cache)}${after}`;
    report({ rule: "I-7", what, should: `the driver invalidates ${caches.join(", then ")} (${kind.rule})` });
  };
  const invalidated = (unit: string, cache: string) => {
    for (const [at, change] of changes) {
      if (change.unit !== unit || change.caches[change.done] !== cache) continue;
      if (++change.done === change.caches.length) changes.delete(at);
    }
  };
  return {
    listeners: {
      "table:written": ({ by, table, address, value }) => {
        const kind = kinds.of(by, table);
        if (kind === undefined) return;
        const { bytes, words } = kind.layout;
        const at = address - (address % bytes);
        const thread = scheduler.current;
        for (const [other, change] of changes) if (other !== at && change.thread === thread) settle(other, change);
        if (valid.has(at)) {
          const entry = new Int32Array(words);
          for (let word = 0; word < words; word++) entry[word] = memory.load32(at + word * 4);
          const caches = kind.cachedBy(entry);
          if (caches.length > 0) changes.set(at, { thread, unit: by, kind, value, caches, done: 0 });
        }
        if (address !== at) return;
        if ((value & 1n) === 1n) valid.add(at);
        else valid.delete(at);
      },
      "cache:invalidated": ({ unit, cache }) => invalidated(unit, cache),
      "ats:invalidated": ({ unit: device }) => invalidated(platform.devices.get(device)?.iommu?.name ?? "", "ATC"),
    },
    begin: () => changes.clear(),
    end() {
      for (const [at, change] of changes) settle(at, change);
    },
  };
};
