/** What an invalidation descriptor of legacy mode says (VT-d 6.5.2.1, 6.5.2.3). */
import type { QiDescriptor } from "./steps.js";
import type { Inclusive } from "./thread.js";

const GLOBAL = 1n;
const PAGES = 3n;

export const isGlobal = ([qw0]: QiDescriptor): boolean => ((qw0 >> 4n) & 3n) === GLOBAL;
export const didOf = ([qw0]: QiDescriptor): number => Number((qw0 >> 16n) & 0xffffn);

/** "0000:00:08.0" of the source-id of a context cache invalidation. */
export function deviceOf([qw0]: QiDescriptor): string {
  const byte = (at: bigint) => ((qw0 >> at) & 0xffn).toString(16).padStart(2, "0");
  const devfn = Number((qw0 >> 32n) & 0xffn);
  return `0000:${byte(40n)}:${(devfn >>> 3).toString(16).padStart(2, "0")}.${devfn & 7}`;
}

/** The pages that an IOTLB invalidation names, whatever the bits of the address that its mask hides; none of a whole domain. */
export function pagesOf([qw0, qw1]: QiDescriptor): Inclusive | undefined {
  if (((qw0 >> 4n) & 3n) !== PAGES) return undefined;
  const bytes = 0x1000n << (qw1 & 0x3fn);
  const start = qw1 & -bytes;
  return { start, end: start + bytes - 1n };
}

/** As kernels before 6.11 queue it for pages from `start`: not aligned to the mask, and without the hint (IH). */
export function unaligned([qw0, qw1]: QiDescriptor, start: bigint): QiDescriptor {
  return ((qw0 >> 4n) & 3n) === PAGES ? [qw0, start | (qw1 & 0x3fn)] : [qw0, qw1];
}
