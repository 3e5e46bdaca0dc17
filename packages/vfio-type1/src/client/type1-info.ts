/** What VFIO_IOMMU_GET_INFO says, capabilities decoded. */
import { decodeStruct, encodeStruct } from "../uapi/struct.js";
import {
  DmaAvailCap,
  InfoCapHeader,
  IommuCapId,
  IommuInfo,
  IovaRangeCap,
  IovaRangeStruct,
  MigrationCap,
} from "../uapi/type1-structs.js";

/** Addresses and sizes in bytes. */
export interface Type1Info {
  readonly flags: number;
  readonly pgsizes: bigint;
  /** Both ends inclusive; empty when the container has no such capability. */
  readonly iovaRanges: readonly { readonly start: bigint; readonly end: bigint }[];
  readonly dmaAvail: number | undefined;
  readonly migration: { readonly pgsizeBitmap: bigint; readonly maxDirtyBitmapSize: bigint } | undefined;
}

export async function parseIommuInfo(ask: (bytes: Uint8Array) => Promise<number>): Promise<Type1Info> {
  const probe = encodeStruct(IommuInfo, { argsz: IommuInfo.bytes });
  await ask(probe);
  const bytes = new Uint8Array(decodeStruct(IommuInfo, probe).argsz);
  bytes.set(encodeStruct(IommuInfo, { argsz: bytes.length }));
  await ask(bytes);
  const { flags, iova_pgsizes: pgsizes, cap_offset } = decodeStruct(IommuInfo, bytes);
  const bodies = new Map<number, Uint8Array>();
  for (let at = cap_offset; at !== 0; ) {
    const { id, next } = decodeStruct(InfoCapHeader, bytes.subarray(at));
    bodies.set(id, bytes.subarray(at + InfoCapHeader.bytes));
    at = next;
  }
  const migration = bodies.get(IommuCapId.MIGRATION);
  const avail = bodies.get(IommuCapId.DMA_AVAIL);
  return {
    flags,
    pgsizes,
    iovaRanges: ranges(bodies.get(IommuCapId.IOVA_RANGE)),
    dmaAvail: avail && decodeStruct(DmaAvailCap, avail).avail,
    migration: migration && toMigration(migration),
  };
}

function toMigration(body: Uint8Array): Type1Info["migration"] {
  const { pgsize_bitmap, max_dirty_bitmap_size } = decodeStruct(MigrationCap, body);
  return { pgsizeBitmap: pgsize_bitmap, maxDirtyBitmapSize: max_dirty_bitmap_size };
}

function ranges(body: Uint8Array | undefined): Type1Info["iovaRanges"] {
  if (!body) return [];
  const { nr_iovas } = decodeStruct(IovaRangeCap, body);
  return Array.from({ length: nr_iovas }, (_, k) => {
    const { start, end } = decodeStruct(IovaRangeStruct, body.subarray(IovaRangeCap.bytes + k * IovaRangeStruct.bytes));
    return { start, end };
  });
}
