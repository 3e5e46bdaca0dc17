/**
 * Driver variants: known bugs of the seed or of a later kernel, named as in the list of known bugs ("S-8", "L-13") and
 * switched on at composition. Off by default; code asks in one line where the correct behaviour and the bug part.
 */
import { IommuError } from "../kernel/errno.js";
import { KNOWN_VARIANTS } from "./known-variants.js";
import { token } from "./token.js";

/** The variants of a platform, or of one instance. */
export interface Variants {
  has(name: string): boolean;
}
export const Variants = token<Variants>("Variants");

/** @throws IommuError EINVAL for a name that is not in KNOWN_VARIANTS: a misspelt bug would never be found */
export function variants(names: Iterable<string> = []): Variants {
  const enabled = new Set(names);
  for (const name of enabled) {
    if (!Object.hasOwn(KNOWN_VARIANTS, name))
      throw new IommuError("EINVAL", `no variant "${name}"; there are ${Object.keys(KNOWN_VARIANTS).join(", ")}`);
  }
  return enabled;
}
