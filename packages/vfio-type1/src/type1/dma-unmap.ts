/** VFIO_IOMMU_UNMAP_DMA (F15–F19): whole mappings, their dirty bits before they go, or only their vaddr. The caller may wait for drivers. */
import { hex, IommuError, type UserPointer } from "@iommukit/core";
import { decodeStruct, encodeStruct, U64_MAX } from "../uapi/struct.js";
import { Bitmap, DmaUnmap, DmaUnmapFlags } from "../uapi/type1-structs.js";
import { reportDirty } from "./dirty-bitmap.js";
import type { VfioDma } from "./dma.js";
import { dropExternal, notifyDmaUnmap } from "./external.js";
import { unmapAndUnpin } from "./pinning.js";
import { checkBitmapSize, checkUserRange, checkWrap, invalid } from "./range-checks.js";
import type { VfioIommu } from "./vfio-iommu.js";

const KNOWN = DmaUnmapFlags.GET_DIRTY_BITMAP | DmaUnmapFlags.ALL | DmaUnmapFlags.VADDR;

interface UnmapRequest {
  readonly flags: number;
  readonly iova: bigint;
  readonly size: bigint;
}

interface UserBitmap {
  readonly pgsize: bigint;
  readonly size: bigint;
  readonly data: bigint;
}

export async function unmapDma(iommu: VfioIommu, arg: UserPointer): Promise<number> {
  const unmap = decodeStruct(DmaUnmap, await arg.copyFrom(DmaUnmap.bytes));
  if (unmap.argsz < DmaUnmap.bytes) throw invalid(`argsz ${unmap.argsz} is less than ${DmaUnmap.bytes}`);
  if ((unmap.flags & ~KNOWN) !== 0) throw invalid(`flags 0x${unmap.flags.toString(16)} are not all known`);
  const wantsBitmap = (unmap.flags & DmaUnmapFlags.GET_DIRTY_BITMAP) !== 0;
  if (wantsBitmap && (unmap.flags & (DmaUnmapFlags.ALL | DmaUnmapFlags.VADDR)) !== 0)
    throw invalid("GET_DIRTY_BITMAP goes with neither ALL nor VADDR");
  const bitmap = wantsBitmap ? await copyBitmap(unmap.argsz, unmap.size, arg) : undefined;
  const size = await iommu.lock.with(() => unmapRange(iommu, unmap, bitmap, arg));
  await arg.copyTo(encodeStruct(DmaUnmap, { ...unmap, size }));
  return 0;
}

async function copyBitmap(argsz: number, size: bigint, arg: UserPointer): Promise<UserBitmap> {
  const needed = DmaUnmap.bytes + Bitmap.bytes;
  if (argsz < needed) throw invalid(`argsz ${argsz} is less than ${needed}`);
  const bitmap = decodeStruct(Bitmap, await arg.copyFrom(Bitmap.bytes, DmaUnmap.bytes));
  checkUserRange(bitmap.data, bitmap.size);
  checkBitmapSize(size >> pageShift(bitmap.pgsize), bitmap.size);
  return bitmap;
}

/** __ffs: the lowest set bit. Undefined for 0 in the kernel; here the range counts no page then, and is refused (V-4). */
export function pageShift(pgsize: bigint): bigint {
  if (pgsize === 0n) return 64n;
  let shift = 0n;
  while (((pgsize >> shift) & 1n) === 0n) shift++;
  return shift;
}

async function unmapRange(
  iommu: VfioIommu,
  { flags, iova, size: asked }: UnmapRequest,
  bitmap: UserBitmap | undefined,
  arg: UserPointer,
): Promise<bigint> {
  const { pgsize } = iommu;
  if ((flags & DmaUnmapFlags.VADDR) !== 0 && iommu.emulatedGroups.size > 0)
    throw new IommuError("EBUSY", "the container has emulated devices, whose drivers may pin pages at any time");
  const all = (flags & DmaUnmapFlags.ALL) !== 0;
  if ((iova & (pgsize - 1n)) !== 0n) throw invalid(`iova ${hex(iova)} is not a multiple of ${pgsize}`);
  if (all && (iova !== 0n || asked !== 0n)) throw invalid("ALL takes no range: iova and size must be 0");
  if (!all) {
    if (asked === 0n || (asked & (pgsize - 1n)) !== 0n)
      throw invalid(`size ${hex(asked)} is not in pages of ${pgsize}`);
    checkWrap(iommu.profile.wrapErrno, "iova", iova, asked);
  }
  if (bitmap && !iommu.dirtyTracking) throw invalid("dirty tracking is off");
  if (bitmap && bitmap.pgsize !== pgsize) throw invalid(`a bitmap for pages of ${bitmap.pgsize}; pages have ${pgsize}`);
  const size = all ? U64_MAX : asked;
  const report =
    bitmap && ((dma: VfioDma) => reportDirty(arg.at(bitmap.data), dma, iova, pgsize, iommu.profile.staleDirtyBits));
  let notified: Map<VfioDma, number> | undefined;
  for (let unmapped = 0n; ; ) {
    if (iommu.v2 && !all && iommu.dmas.bisects(iova, size))
      throw invalid(`[${hex(iova)}, +${hex(size)}) starts or ends inside of a mapping`);
    const chosen = iommu.dmas.overlapping(iova, size);
    // v1 takes any range, but one that starts inside of a mapping ends the search there.
    if (!iommu.v2 && chosen.length > 0 && iova > chosen[0].iova) return unmapped;
    if ((flags & DmaUnmapFlags.VADDR) !== 0) return invalidateVaddr(iommu, chosen);
    const held = chosen.findIndex(({ external }) => external.size > 0);
    const free = held < 0 ? chosen : chosen.slice(0, held);
    await removeRun(iommu, free, report);
    unmapped += totalSize(free);
    if (held < 0) return unmapped;
    notified ??= new Map();
    await askToUnpin(iommu, chosen[held], notified);
  }
}

/** How often drivers are asked to unpin one mapping before it is their bug. */
const MAX_RETRIES = 10;

/** Drops iommu->lock meanwhile: everything has to be looked at anew afterwards (F17). */
async function askToUnpin(iommu: VfioIommu, dma: VfioDma, notified: Map<VfioDma, number>): Promise<void> {
  const times = notified.get(dma) ?? 0;
  if (times > MAX_RETRIES)
    throw new Error(
      `BUG: after ${times} calls of dma_unmap drivers still hold pages of the mapping at ${hex(dma.iova)}`,
    );
  notified.set(dma, times + 1);
  await notifyDmaUnmap(iommu, dma);
}

function totalSize(dmas: readonly VfioDma[]): bigint {
  return dmas.reduce((sum, { size }) => sum + size, 0n);
}

function invalidateVaddr(iommu: VfioIommu, chosen: readonly VfioDma[]): bigint {
  const twice = chosen.find((dma) => dma.vaddrInvalid);
  if (twice) throw invalid(`the vaddr of the mapping at ${hex(twice.iova)} is invalid already`);
  for (const dma of chosen) dma.vaddrInvalid = true;
  iommu.vaddrInvalid += chosen.length;
  return totalSize(chosen);
}

/**
 * vfio_remove_dma for neighbours, lowest first. Those before one whose `report` fails are gone.
 * @param report runs before each goes
 */
export async function removeRun(
  iommu: VfioIommu,
  run: readonly VfioDma[],
  report?: (dma: VfioDma) => Promise<void>,
): Promise<void> {
  for (const dma of run) {
    if (report) await report(dma);
    await unmapAndUnpin(iommu.env, dma, iommu.domains);
    dropExternal(iommu, dma);
    iommu.dmas.remove(dma);
    if (dma.vaddrInvalid) iommu.vaddrInvalid--;
    iommu.dmaAvail++;
    dma.owner.mm.mmdrop();
  }
}
