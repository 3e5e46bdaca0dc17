/** Which regions of RAM can be, and what of them is one to software. */
import { IommuError } from "../kernel/errno.js";
import { hex, PAGE_SIZE } from "./address.js";
import type { MemoryRegion } from "./physical-memory.js";

/** @throws IommuError EINVAL regions that are not whole pages, that overlap, or that 52 bits do not address */
export function checkRegions(regions: readonly MemoryRegion[]): void {
  if (regions.length === 0) throw new IommuError("EINVAL", "no RAM: at least one region is wanted");
  const text = ({ base, size }: MemoryRegion) => `RAM ${hex(base)} + ${hex(size)}`;
  for (const [index, region] of regions.entries()) {
    const { base, size } = region;
    if (
      !Number.isSafeInteger(base) ||
      !Number.isSafeInteger(size) ||
      base % PAGE_SIZE !== 0 ||
      size % PAGE_SIZE !== 0 ||
      size <= 0
    )
      throw new IommuError("EINVAL", `${text(region)} is not whole pages`);
    if (base < 0 || base + size > 2 ** 52)
      throw new IommuError("EINVAL", `${text(region)} leaves the 52-bit physical address space`);
    const other = regions.slice(0, index).find((each) => base < each.base + each.size && each.base < base + size);
    if (other) throw new IommuError("EINVAL", `${text(region)} overlaps ${text(other)}`);
  }
}

/** The board's PhysicalMemory. */
/** First byte, and first byte after it. */
export interface Range {
  readonly base: number;
  readonly end: number;
}

/** Regions side by side are one range. */
export function joined(regions: readonly MemoryRegion[]): Range[] {
  const ranges: Range[] = [];
  for (const { base, size } of regions.toSorted((a, b) => a.base - b.base)) {
    const before = ranges.at(-1)?.end === base ? ranges.pop() : undefined;
    ranges.push({ base: before?.base ?? base, end: base + size });
  }
  return ranges;
}
