/** VFIO_IOMMU_GET_INFO and its capability chain (F8, F9). */
import type { UserPointer } from "@iommukit/core";
import { capChain, concat, type InfoCap } from "../uapi/info-caps.js";
import { decodeStruct, encodeStruct, offsetofend } from "../uapi/struct.js";
import {
  DmaAvailCap,
  IommuCapId,
  IommuInfo,
  IommuInfoFlags,
  IovaRangeCap,
  IovaRangeStruct,
  MigrationCap,
} from "../uapi/type1-structs.js";
import { invalid, MAX_BITMAP_BYTES } from "./range-checks.js";
import type { VfioIommu } from "./vfio-iommu.js";

const MIN = offsetofend(IommuInfo, "iova_pgsizes");
const WITH_CAPS = offsetofend(IommuInfo, "cap_offset");

export async function getInfo(iommu: VfioIommu, arg: UserPointer): Promise<number> {
  const { argsz: given } = decodeStruct(IommuInfo, await arg.copyFrom(MIN));
  if (given < MIN) throw invalid(`argsz ${given} is less than ${MIN}`);
  const { chain, pgsizes } = await iommu.lock.with(() => ({
    chain: capChain(capabilities(iommu), IommuInfo.bytes, iommu.profile.capabilityAlign),
    pgsizes: iommu.pgsizeBitmap,
  }));
  const needed = IommuInfo.bytes + chain.length;
  const fits = given >= needed;
  if (fits) await arg.copyTo(chain, IommuInfo.bytes);
  const info = encodeStruct(IommuInfo, {
    argsz: fits ? given : needed,
    flags: IommuInfoFlags.PGSIZES | IommuInfoFlags.CAPS,
    iova_pgsizes: pgsizes,
    cap_offset: fits ? IommuInfo.bytes : 0,
  });
  await arg.copyTo(
    info.subarray(0, iommu.profile.infoHasPadding ? Math.min(given, IommuInfo.bytes) : wholeFields(given)),
  );
  return 0;
}

/** `cap_offset` is younger than the rest: programs that do not know it leave no room for it. */
function wholeFields(argsz: number): number {
  return argsz >= WITH_CAPS ? WITH_CAPS : MIN;
}

/** In the kernel's order. A container without ranges has no such capability. */
function capabilities(iommu: VfioIommu): InfoCap[] {
  const migration = encodeStruct(MigrationCap, {
    pgsize_bitmap: iommu.pgsize,
    max_dirty_bitmap_size: MAX_BITMAP_BYTES,
  });
  const caps = [
    { id: IommuCapId.MIGRATION, version: 1, body: migration },
    { id: IommuCapId.DMA_AVAIL, version: 1, body: encodeStruct(DmaAvailCap, { avail: iommu.dmaAvail }) },
  ];
  const { ranges } = iommu;
  if (ranges.length === 0) return caps;
  const body = concat(
    encodeStruct(IovaRangeCap, { nr_iovas: ranges.length }),
    ...ranges.map(({ start, end }) => encodeStruct(IovaRangeStruct, { start, end })),
  );
  return [...caps, { id: IommuCapId.IOVA_RANGE, version: 1, body }];
}
