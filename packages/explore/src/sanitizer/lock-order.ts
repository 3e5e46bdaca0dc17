/**
 * I-5: locks are taken in one order, as lockdep sees it: a lock class is the lock's name without its numbers; an edge leads
 * from each class held to the class taken; a cycle is a deadlock that some schedule has. Nobody sleeps with a spinlock.
 */
import type { CheckerFactory } from "./checker.js";

interface Held {
  readonly lock: string;
  readonly kind: string;
}

export const lockOrder: CheckerFactory = ({ report, parked }) => {
  /** Held by each thread, oldest first. */
  const held = new Map<string, Held[]>();
  const NONE: readonly Held[] = [];
  /** Class → classes taken under it, with where it was seen. Lasts over runs: a cycle's edges may come from several. */
  const under = new Map<string, Map<string, string>>();
  const classes = new Map<string, string>();
  const classOf = (lock: string) => {
    const known = classes.get(lock) ?? lock.replace(/\d+/g, "#");
    classes.set(lock, known);
    return known;
  };

  const path = (from: string, to: string, seen = new Set<string>()): string[] | undefined => {
    if (from === to) return [from];
    if (seen.has(from)) return undefined;
    seen.add(from);
    for (const next of under.get(from)?.keys() ?? []) {
      const rest = path(next, to, seen);
      if (rest) return [from, ...rest];
    }
    return undefined;
  };

  const wants = (thread: string, lock: string) => {
    const others = held.get(thread) ?? NONE;
    if (others.length === 0) return;
    const taken = classOf(lock);
    for (const { lock: other } of others) {
      const holder = classOf(other);
      if (holder === taken || under.get(holder)?.has(taken)) continue;
      const back = path(taken, holder);
      if (back) {
        const seen = under.get(back[0])?.get(back[1]) ?? "";
        const what = `${thread} takes ${lock} under ${other}; ${back.join(" → ")} was taken in that order before (${seen})`;
        report({ rule: "I-5", what, should: "two locks are always taken in the same order" });
      }
      const edges = under.get(holder) ?? new Map<string, string>();
      under.set(holder, edges.set(taken, `${thread}: ${lock} under ${other}`));
    }
  };

  parked((thread, reason) => {
    const spin = held.get(thread)?.find(({ kind }) => kind === "spin");
    if (spin)
      report({
        rule: "I-5",
        what: `${thread} sleeps (${reason}) with spinlock ${spin.lock}`,
        should: "a spinlock's holder does not sleep",
      });
  });

  return {
    listeners: {
      "lock:contended": ({ lock, thread }) => wants(thread, lock),
      "lock:acquired": ({ lock, kind, thread }) => {
        wants(thread, lock);
        const list = held.get(thread);
        if (list) list.push({ lock, kind });
        else held.set(thread, [{ lock, kind }]);
      },
      "lock:released": ({ lock, thread }) => {
        const list = held.get(thread) ?? [];
        const at = list.findLastIndex((one) => one.lock === lock);
        if (at >= 0) list.splice(at, 1);
      },
    },
    commutes: true,
    begin: () => held.clear(),
    end() {
      for (const [thread, list] of held)
        for (const { lock } of list) report({ rule: "I-5", what: `${thread} never gave ${lock} back` });
    },
  };
};
