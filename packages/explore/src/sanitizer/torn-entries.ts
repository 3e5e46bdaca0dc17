/** I-6: hardware never uses an entry of which it has read old and new words: V or P (bit 0) is clear while software changes it. */
import { VersionedMemory } from "../memory/versioned-memory.js";
import type { CheckerFactory } from "./checker.js";

export const tornEntries: CheckerFactory = ({ platform, report }) => {
  const { memory } = platform;
  if (memory instanceof VersionedMemory) {
    memory.onFetch = ({ address, words, torn }) => {
      if (!torn || (words[0] & 1) === 0) return;
      const shown = [...words].map((word) => (word >>> 0).toString(16).padStart(8, "0")).join(" ");
      const what = `the entry at 0x${address.toString(16)} was fetched as ${shown}, which it never was`;
      report({
        rule: "I-6",
        what,
        should: "software clears the valid bit, invalidates, changes the entry, and sets it again",
      });
    };
  }
  return { listeners: {}, begin: () => {}, end: () => {} };
};
