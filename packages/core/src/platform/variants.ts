/**
 * Driver variants: known bugs of the seed or of a later kernel, named as in the list of known bugs ("S-8", "L-13") and
 * switched on at composition. Off by default; code asks in one line where the correct behaviour and the bug part.
 */
import { token } from "./token.js";

export interface Variants {
  has(name: string): boolean;
}
export const Variants = token<Variants>("Variants");

export function variants(names: Iterable<string> = []): Variants {
  return new Set(names);
}
