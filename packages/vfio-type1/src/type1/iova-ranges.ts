/** The IOVAs that a container may use: what every domain's aperture allows, without the devices' reserved regions (F21, F24). */
import type { Aperture, ReservedRegion } from "@iommukit/core";
import { U64_MAX } from "../uapi/struct.js";

export interface IovaRange {
  readonly start: bigint;
  /** Inclusive. */
  readonly end: bigint;
}

/** True for a region that mappings must keep clear of; relaxable one-to-one mappings may be given up. */
function excludes(region: ReservedRegion): boolean {
  return region.type !== "direct-relaxable" && region.length > 0n;
}

/** Without an aperture nothing bounds them. Empty when the apertures have nothing in common, or all of it is reserved. */
export function usableRanges(apertures: readonly Aperture[], reserved: readonly ReservedRegion[]): IovaRange[] {
  const start = apertures.reduce((most, aperture) => (aperture.start > most ? aperture.start : most), 0n);
  const end = apertures.reduce((least, { end }) => (end < least ? end : least), U64_MAX);
  let ranges: IovaRange[] = start <= end ? [{ start, end }] : [];
  for (const region of reserved) {
    if (excludes(region)) ranges = ranges.flatMap((range) => without(range, region));
  }
  return ranges;
}

function without(range: IovaRange, region: ReservedRegion): IovaRange[] {
  const last = region.start + region.length - 1n;
  if (last < range.start || region.start > range.end) return [range];
  const left = region.start > range.start ? [{ start: range.start, end: region.start - 1n }] : [];
  const right = last < range.end ? [{ start: last + 1n, end: range.end }] : [];
  return [...left, ...right];
}

/** A container that never had an IOMMU-backed group has no ranges, and no limits. */
export function rangesAllow(ranges: readonly IovaRange[], start: bigint, last: bigint): boolean {
  return ranges.length === 0 || ranges.some((range) => start >= range.start && last <= range.end);
}

/** What a new group takes away: the parts of `ranges` below and above its aperture, and its reserved regions. */
export function takenAway(
  ranges: readonly IovaRange[],
  aperture: Aperture,
  reserved: readonly ReservedRegion[],
): { readonly why: "aperture" | "reserved"; readonly start: bigint; readonly size: bigint }[] {
  const taken: { why: "aperture" | "reserved"; start: bigint; size: bigint }[] = [];
  const first = ranges.at(0);
  const last = ranges.at(-1);
  if (first && aperture.start > first.start)
    taken.push({ why: "aperture", start: first.start, size: aperture.start - first.start });
  if (last && aperture.end < last.end)
    taken.push({ why: "aperture", start: aperture.end + 1n, size: last.end - aperture.end });
  for (const region of reserved) {
    if (excludes(region)) taken.push({ why: "reserved", start: region.start, size: region.length });
  }
  return taken;
}
