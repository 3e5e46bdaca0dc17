/** VFIO_IOMMU_DIRTY_PAGES (F25). v2 only. */
import { hex, IommuError, type UserPointer } from "@iommukit/core";
import { decodeStruct } from "../uapi/struct.js";
import { DirtyBitmap, DirtyBitmapGet, DirtyPagesFlags } from "../uapi/type1-structs.js";
import { allocBitmap, clearDirty, reportDirty } from "./dirty-bitmap.js";
import { pageShift } from "./dma-unmap.js";
import { checkBitmapSize, checkUserRange, checkWrap, invalid } from "./range-checks.js";
import type { VfioIommu } from "./vfio-iommu.js";

export async function dirtyPages(iommu: VfioIommu, arg: UserPointer): Promise<number> {
  if (!iommu.v2) throw new IommuError("EACCES", "dirty tracking needs VFIO_TYPE1v2_IOMMU");
  const { argsz, flags } = decodeStruct(DirtyBitmap, await arg.copyFrom(DirtyBitmap.bytes));
  if (argsz < DirtyBitmap.bytes) throw invalid(`argsz ${argsz} is less than ${DirtyBitmap.bytes}`);
  switch (flags) {
    case DirtyPagesFlags.START:
      await iommu.lock.with(() => start(iommu));
      return 0;
    case DirtyPagesFlags.STOP:
      await iommu.lock.with(() => stop(iommu));
      return 0;
    case DirtyPagesFlags.GET_BITMAP:
      await getBitmap(iommu, argsz, arg);
      return 0;
    default:
      throw invalid(`flags 0x${flags.toString(16)}: exactly one of START, STOP, GET_BITMAP`);
  }
}

/** All mappings or none (vfio_dma_bitmap_alloc_all). */
function start(iommu: VfioIommu): void {
  if (iommu.dirtyTracking) return;
  try {
    for (const dma of iommu.dmas.all()) allocBitmap(dma, iommu.pgsize);
    iommu.dirtyTracking = true;
  } catch (error) {
    stop(iommu);
    throw error;
  }
}

export function stop(iommu: VfioIommu): void {
  for (const dma of iommu.dmas.all()) dma.bitmap = undefined;
  iommu.dirtyTracking = false;
}

async function getBitmap(iommu: VfioIommu, argsz: number, arg: UserPointer): Promise<void> {
  const needed = DirtyBitmap.bytes + DirtyBitmapGet.bytes;
  if (argsz < needed) throw invalid(`argsz ${argsz} is less than ${needed}`);
  const range = decodeStruct(DirtyBitmapGet, await arg.copyFrom(DirtyBitmapGet.bytes, DirtyBitmap.bytes));
  checkWrap(iommu.profile.wrapErrno, "iova", range.iova, range.size + (iommu.profile.losesMappingsAtTop ? 1n : 0n));
  checkUserRange(range.data, range.bitmap_size);
  checkBitmapSize(range.size >> pageShift(range.pgsize), range.bitmap_size);
  await iommu.lock.with(() => report(iommu, range, arg.at(range.data)));
}

async function report(
  iommu: VfioIommu,
  { iova, size, pgsize }: { readonly iova: bigint; readonly size: bigint; readonly pgsize: bigint },
  user: UserPointer,
): Promise<void> {
  if (pgsize !== iommu.pgsize) throw invalid(`a bitmap for pages of ${pgsize}; pages have ${iommu.pgsize}`);
  if (((iova | size) & (pgsize - 1n)) !== 0n || size === 0n)
    throw invalid(`iova ${hex(iova)}, size ${hex(size)}: not in pages of ${pgsize}`);
  if (!iommu.dirtyTracking) throw invalid("dirty tracking is off");
  if (iommu.dmas.bisects(iova, size)) throw invalid(`[${hex(iova)}, +${hex(size)}) starts or ends inside of a mapping`);
  for (const dma of iommu.dmas.all()) {
    if (dma.iova < iova || dma.iova > iova + size - 1n) continue;
    await reportDirty(user, dma, iova, pgsize, iommu.profile.staleDirtyBits);
    clearDirty(dma, pgsize);
  }
}
