/** What came out beside what was recorded. */
import type { Fields } from "./transcript.js";

/** What came out, in the transcript's words. */
export type Answer = Readonly<Record<string, unknown>>;

/** The first field that differs, in words. */
export function difference(expected: Fields, got: Answer): string | undefined {
  for (const key of new Set([...Object.keys(expected), ...Object.keys(got)])) {
    const [want, have] = [expected[key], got[key]].map((value) => JSON.stringify(value, sorted));
    if (want !== have) return `${key} is ${have}, the kernel gave ${want}`;
  }
  return undefined;
}

/** Keys in one order. */
function sorted(_key: string, value: unknown): unknown {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The recorder does not print every field each time. */
export function only(keys: readonly string[], fields: Fields): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([key]) => keys.includes(key)));
}
