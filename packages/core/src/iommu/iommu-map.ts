/**
 * iommu_map, iommu_map_nosync, iommu_unmap and iommu_unmap_fast of drivers/iommu/iommu.c: any page-aligned range, cut into the largest
 * pages that the domain's page sizes and both addresses allow.
 */
import { IommuError } from "../kernel/errno.js";
import type { MaySleep } from "../kernel/may-sleep.js";
import { hex, hi32, lo32, loOf, TWO32, toBigint, toNumber } from "../memory/address.js";
import { type IommuDomain, type IotlbGather, newGather } from "./domain.js";

interface Run {
  readonly pgsize: number;
  readonly count: number;
}

/** Lowest bit of a mask of 64 bits, as its value; 0 of none. */
function lowestBit(hi: number, lo: number): number {
  return lo === 0 ? ((hi & -hi) >>> 0) * TWO32 : (lo & -lo) >>> 0;
}

/**
 * iommu_pgsize: the largest page that fits, and how many of it until a larger one would. An unmap has no `pa`: it gives `iova`.
 * Addresses and size are multiples of the smallest page, so that they are exact as numbers.
 */
export function iommuPgsize({ pgsizeBitmap }: IommuDomain, iova: number, pa: number, size: number): Run {
  let best = 0;
  let next = 0;
  for (let hi = hi32(pgsizeBitmap), lo = lo32(pgsizeBitmap); next === 0 && (hi | lo) !== 0; ) {
    const page = lowestBit(hi, lo);
    if (page === size && best === 0) return { pgsize: page, count: 1 };
    if (page <= size && iova % page === 0 && pa % page === 0) best = page;
    else next = page;
    if (lo === 0) hi &= hi - 1;
    else lo &= lo - 1;
  }
  // Up to where the next larger page becomes possible, when both addresses get there together.
  let span = size;
  if (next !== 0 && (iova - pa) % next === 0) {
    const toBoundary = next - (iova % next);
    if (toBoundary + next <= size) span = toBoundary;
  }
  return { pgsize: best, count: Math.floor(span / best) };
}

/** @throws IommuError EINVAL not in smallest pages */
function refuseUnaligned({ pgsizeBitmap }: IommuDomain, iova: bigint, pa: number, size: bigint): void {
  const smallest = lowestBit(hi32(pgsizeBitmap), lo32(pgsizeBitmap));
  if (((lo32(iova) | loOf(pa) | lo32(size)) & (smallest - 1)) === 0) return;
  throw new IommuError(
    "EINVAL",
    `${hex(size)} bytes at ${hex(iova)} → ${hex(pa)} are not in pages of ${smallest}: page sizes ${hex(pgsizeBitmap)}`,
  );
}

/** `iova` itself at the start, where most ranges end. */
function plus(iova: bigint, offset: number): bigint {
  return offset === 0 ? iova : iova + toBigint(offset);
}

/**
 * Writes the tables for `[iova, iova + size)` of physically contiguous memory, all or nothing. Ranges side by side may be written
 * one after the other (a scatter list) before `iotlbSyncMap` tells the hardware of them together.
 * @returns a promise only when it rejects: IommuError EINVAL not aligned to the smallest page, ENOMEM, and what the driver's map
 *   refuses with
 */
export function iommuMapNosync(domain: IommuDomain, iova: bigint, pa: number, size: bigint, prot: number): MaySleep {
  const first = toNumber(iova);
  const bytes = toNumber(size);
  let done = 0;
  try {
    refuseUnaligned(domain, iova, pa, size);
    while (done < bytes) {
      const { pgsize, count } = iommuPgsize(domain, first + done, pa + done, bytes - done);
      const mapped = domain.ops.map(domain, plus(iova, done), pa + done, pgsize, count, prot);
      done += mapped;
      if (mapped < pgsize * count)
        throw new IommuError("ENOMEM", `no memory for the table of ${hex(plus(iova, done))}`);
    }
    return undefined;
  } catch (error) {
    return undo(domain, iova, toBigint(done), error);
  }
}

/**
 * Maps `[iova, iova + size)` to physically contiguous memory. All or nothing.
 * @returns when the hardware knows of it. The promise rejects as that of `iommuMapNosync`
 */
export function iommuMap(domain: IommuDomain, iova: bigint, pa: number, size: bigint, prot: number): MaySleep {
  const refused = iommuMapNosync(domain, iova, pa, size, prot);
  if (refused !== undefined) return refused;
  try {
    return domain.ops.iotlbSyncMap(domain, iova, size)?.catch((error) => undo(domain, iova, size, error));
  } catch (error) {
    return undo(domain, iova, size, error);
  }
}

async function undo(domain: IommuDomain, iova: bigint, done: bigint, reason: unknown): Promise<never> {
  if (done > 0n) await iommuUnmap(domain, iova, done);
  throw reason;
}

/**
 * Takes mappings out without waiting for the hardware; `gather` says what is left to be invalidated. @returns bytes unmapped
 * @throws IommuError EINVAL not aligned to the smallest page
 */
export function iommuUnmapFast(domain: IommuDomain, iova: bigint, size: bigint, gather: IotlbGather): bigint {
  const first = toNumber(iova);
  const bytes = toNumber(size);
  let done = 0;
  refuseUnaligned(domain, iova, 0, size);
  while (done < bytes) {
    const { pgsize, count } = iommuPgsize(domain, first + done, first + done, bytes - done);
    const unmapped = domain.ops.unmap(domain, plus(iova, done), pgsize, count, gather);
    if (unmapped === 0) break;
    done += unmapped;
  }
  return toBigint(done);
}

/** Unmaps and returns when no translation of the range is cached any more. @returns bytes unmapped */
export async function iommuUnmap(domain: IommuDomain, iova: bigint, size: bigint): Promise<bigint> {
  const gather = newGather();
  const done = iommuUnmapFast(domain, iova, size, gather);
  if (done > 0n) await domain.ops.iotlbSync(domain, gather);
  return done;
}
