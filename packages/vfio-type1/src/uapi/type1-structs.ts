/** Structures of the type1 ioctls: VFIO_IOMMU_GET_INFO, MAP_DMA, UNMAP_DMA, DIRTY_PAGES. */
import { layout } from "@iommukit/core";
import { pad, u16, u32, u64 } from "./struct.js";

const SPEC = "include/uapi/linux/vfio.h";

/** VFIO_IOMMU_INFO_* */
export const IommuInfoFlags = { PGSIZES: 1 << 0, CAPS: 1 << 1 } as const;

export const IommuInfo = layout(
  { name: "vfio_iommu_type1_info", bits: 192, spec: SPEC, summary: "VFIO_IOMMU_GET_INFO" },
  {
    argsz: u32(0, "size of the user's buffer; raised to what the capabilities need when it is too small"),
    flags: u32(4, "PGSIZES, CAPS"),
    iova_pgsizes: u64(8, "page sizes, one bit each"),
    cap_offset: u32(16, "offset of the first capability, 0 when none was copied"),
    padding: pad(20, 4),
  },
);

export const InfoCapHeader = layout(
  { name: "vfio_info_cap_header", bits: 64, spec: SPEC, summary: "starts each capability of an info structure" },
  {
    id: u16(0, "which capability"),
    version: u16(2, "version of its structure"),
    next: u32(4, "offset of the next one from the start of the info structure, 0 for the last"),
  },
);

/** VFIO_IOMMU_TYPE1_INFO_* */
export const IommuCapId = { IOVA_RANGE: 1, MIGRATION: 2, DMA_AVAIL: 3 } as const;

export const IovaRangeCap = layout(
  {
    name: "vfio_iommu_type1_info_cap_iova_range",
    bits: 64,
    spec: SPEC,
    summary: "follows the header; then the ranges",
  },
  { nr_iovas: u32(0, "number of ranges"), padding: pad(4, 4) },
);

export const IovaRangeStruct = layout(
  { name: "vfio_iova_range", bits: 128, spec: SPEC, summary: "one usable range" },
  { start: u64(0, "first IOVA"), end: u64(8, "last IOVA, inclusive") },
);

export const MigrationCap = layout(
  { name: "vfio_iommu_type1_info_cap_migration", bits: 192, spec: SPEC, summary: "follows the header" },
  {
    flags: u32(0, "none"),
    padding: pad(4, 4),
    pgsize_bitmap: u64(8, "page sizes that dirty tracking takes"),
    max_dirty_bitmap_size: u64(16, "largest bitmap, in bytes"),
  },
);

export const DmaAvailCap = layout(
  { name: "vfio_iommu_type1_info_dma_avail", bits: 32, spec: SPEC, summary: "follows the header" },
  { avail: u32(0, "mappings that may still be made") },
);

/** VFIO_DMA_MAP_FLAG_* */
export const DmaMapFlags = { READ: 1 << 0, WRITE: 1 << 1, VADDR: 1 << 2 } as const;

export const DmaMap = layout(
  { name: "vfio_iommu_type1_dma_map", bits: 256, spec: SPEC, summary: "VFIO_IOMMU_MAP_DMA" },
  {
    argsz: u32(0, "at least 32"),
    flags: u32(4, "READ, WRITE, VADDR"),
    vaddr: u64(8, "address in the caller's address space"),
    iova: u64(16, "address for the device"),
    size: u64(24, "bytes"),
  },
);

/** VFIO_DMA_UNMAP_FLAG_* */
export const DmaUnmapFlags = { GET_DIRTY_BITMAP: 1 << 0, ALL: 1 << 1, VADDR: 1 << 2 } as const;

export const DmaUnmap = layout(
  { name: "vfio_iommu_type1_dma_unmap", bits: 192, spec: SPEC, summary: "VFIO_IOMMU_UNMAP_DMA" },
  {
    argsz: u32(0, "at least 24, with GET_DIRTY_BITMAP at least 48"),
    flags: u32(4, "GET_DIRTY_BITMAP, ALL, VADDR"),
    iova: u64(8, "start of the range"),
    size: u64(16, "bytes; on return the bytes that were unmapped"),
  },
);

export const Bitmap = layout(
  { name: "vfio_bitmap", bits: 192, spec: SPEC, summary: "a user's bitmap, one bit a page" },
  {
    pgsize: u64(0, "bytes for each bit"),
    size: u64(8, "bytes of the bitmap"),
    data: u64(16, "its address in the caller's address space"),
  },
);

/** VFIO_IOMMU_DIRTY_PAGES_FLAG_* */
export const DirtyPagesFlags = { START: 1 << 0, STOP: 1 << 1, GET_BITMAP: 1 << 2 } as const;

export const DirtyBitmap = layout(
  { name: "vfio_iommu_type1_dirty_bitmap", bits: 64, spec: SPEC, summary: "VFIO_IOMMU_DIRTY_PAGES" },
  { argsz: u32(0, "at least 8, with GET_BITMAP at least 48"), flags: u32(4, "one of START, STOP, GET_BITMAP") },
);

export const DirtyBitmapGet = layout(
  { name: "vfio_iommu_type1_dirty_bitmap_get", bits: 320, spec: SPEC, summary: "follows with GET_BITMAP" },
  {
    iova: u64(0, "start of the range"),
    size: u64(8, "bytes of the range"),
    pgsize: u64(16, "vfio_bitmap.pgsize"),
    bitmap_size: u64(24, "vfio_bitmap.size"),
    data: u64(32, "vfio_bitmap.data"),
  },
);
