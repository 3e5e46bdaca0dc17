/** I-6: hardware never uses an entry of which it has read old and new words: V or P (bit 0) is clear while software changes it. */
import { type EntryKind, fieldsSet } from "@iommukit/core";
import { VersionedMemory } from "../memory/versioned-memory.js";
import type { CheckerFactory, Listeners } from "./checker.js";
import { EntryKinds } from "./entry-kinds.js";

export const tornEntries: CheckerFactory = ({ platform, report }) => {
  const { memory } = platform;
  const kinds = new EntryKinds(platform);
  /** Entries that a driver has written, by address. Lasts over runs. */
  const written = new Map<number, EntryKind>();
  if (memory instanceof VersionedMemory) {
    memory.onFetch = ({ address, words, torn }) => {
      if (!torn || (words[0] & 1) === 0) return;
      const kind = written.get(address);
      const shown = kind
        ? fieldsSet(kind.layout.fields, words)
        : [...words].map((word) => (word >>> 0).toString(16).padStart(8, "0")).join(" ");
      const what = `the ${kind?.layout.name ?? "entry"} at 0x${address.toString(16)} was fetched as ${shown}, which it never was`;
      report({
        rule: "I-6",
        what,
        should: "software clears the valid bit, invalidates, changes the entry, and sets it again",
      });
    };
  }
  const listeners: Listeners = {
    "table:written": ({ by, table, address }) => {
      const kind = kinds.of(by, table);
      if (kind) written.set(address - (address % kind.layout.bytes), kind);
    },
  };
  return { listeners, begin: () => {}, end: () => {} };
};
