/**
 * iommu_map, iommu_unmap and iommu_unmap_fast of drivers/iommu/iommu.c: any page-aligned range, cut into the largest
 * pages that the domain's page sizes and both addresses allow.
 */
import { IommuError } from "../kernel/errno.js";
import { hex } from "../memory/address.js";
import { type IommuDomain, type IotlbGather, newGather } from "./domain.js";

interface Run {
  readonly pgsize: number;
  readonly count: number;
}

/** iommu_pgsize: the largest page that fits, and how many of it until a larger one would. An unmap has no `pa`: it gives `iova`. */
export function iommuPgsize(domain: IommuDomain, iova: bigint, pa: bigint, size: bigint): Run {
  if (size === (domain.pgsizeBitmap & -domain.pgsizeBitmap)) return { pgsize: Number(size), count: 1 };
  const merged = iova | pa;
  let best = 0n;
  let next = 0n;
  for (let rest = domain.pgsizeBitmap; rest !== 0n; rest &= rest - 1n) {
    const page = rest & -rest;
    if (page <= size && (merged & (page - 1n)) === 0n) best = page;
    else {
      next = page;
      break;
    }
  }
  if (best === 0n)
    throw new IommuError(
      "EINVAL",
      `${hex(size)} bytes at ${hex(iova)} fit no page size in ${hex(domain.pgsizeBitmap)}`,
    );
  // Up to where the next larger page becomes possible, when both addresses get there together.
  let span = size;
  if (next !== 0n && ((iova ^ pa) & (next - 1n)) === 0n) {
    const toBoundary = next - (iova & (next - 1n));
    if (toBoundary + next <= size) span = toBoundary;
  }
  return { pgsize: Number(best), count: Number(span / best) };
}

/**
 * Maps `[iova, iova + size)` to physically contiguous memory. All or nothing.
 * @throws IommuError EINVAL not aligned to the smallest page, ENOMEM, and what the driver's map refuses with
 */
export async function iommuMap(
  domain: IommuDomain,
  iova: bigint,
  pa: number,
  size: bigint,
  prot: number,
): Promise<void> {
  const smallest = domain.pgsizeBitmap & -domain.pgsizeBitmap;
  if (((iova | BigInt(pa) | size) & (smallest - 1n)) !== 0n)
    throw new IommuError(
      "EINVAL",
      `map of ${hex(size)} bytes ${hex(iova)} → ${hex(pa)} is not in pages of ${smallest}`,
    );
  let done = 0n;
  try {
    while (done < size) {
      const at = pa + Number(done);
      const { pgsize, count } = iommuPgsize(domain, iova + done, BigInt(at), size - done);
      const mapped = domain.ops.map(domain, iova + done, at, pgsize, count, prot);
      done += BigInt(mapped);
      if (mapped < pgsize * count) throw new IommuError("ENOMEM", `no memory for the table of ${hex(iova + done)}`);
    }
    await domain.ops.iotlbSyncMap(domain, iova, size);
  } catch (error) {
    if (done > 0n) await iommuUnmap(domain, iova, done);
    throw error;
  }
}

/** Takes mappings out without waiting for the hardware; `gather` says what is left to be invalidated. @returns bytes unmapped */
export function iommuUnmapFast(domain: IommuDomain, iova: bigint, size: bigint, gather: IotlbGather): bigint {
  let done = 0n;
  while (done < size) {
    const { pgsize, count } = iommuPgsize(domain, iova + done, iova + done, size - done);
    const unmapped = domain.ops.unmap(domain, iova + done, pgsize, count, gather);
    if (unmapped === 0) break;
    done += BigInt(unmapped);
  }
  return done;
}

/** Unmaps and returns when no translation of the range is cached any more. @returns bytes unmapped */
export async function iommuUnmap(domain: IommuDomain, iova: bigint, size: bigint): Promise<bigint> {
  const gather = newGather();
  const done = iommuUnmapFast(domain, iova, size, gather);
  if (done > 0n) await domain.ops.iotlbSync(domain, gather);
  return done;
}
