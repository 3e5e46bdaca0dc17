/** The argument of a recorded ioctl as bytes, and the bytes after it as the recorder prints them. */
import {
  Bitmap,
  DeviceInfo,
  DirtyBitmap,
  DirtyBitmapGet,
  DmaAvailCap,
  DmaMap,
  DmaUnmap,
  decodeStruct,
  encodeStruct,
  GroupStatus,
  InfoCapHeader,
  IommuInfo,
  IovaRangeCap,
  IovaRangeStruct,
  IrqInfo,
  MigrationCap,
  RegionInfo,
} from "@iommukit/vfio-type1";
import { type Fields, fromHex, hexBytes, hexOf, toBig } from "./transcript.js";

/** Where the recorder's program keeps things. */
export interface UserContext {
  /** Address of `{"buf":0,"offset":"0x1000"}` or `{"abs":"0x…"}`. */
  address(place: Fields): bigint;
  /** A zeroed buffer of 8192 bytes for bitmaps. */
  readonly scratch: bigint;
  fd(name: string): number;
  /** "$bdf(A)" with the device's address in it. */
  expand(text: string): string;
}

export interface Argument {
  /** The ioctl's argument: a number, or bytes that stand for the program's memory. */
  readonly value: bigint | Uint8Array;
  /** The program's bitmap is written. */
  readonly usesScratch?: boolean;
  /** What the recorder prints as `out`; undefined when it prints none. */
  readonly out: (bytes: Uint8Array, scratch: Uint8Array) => Fields | undefined;
}

const SCRATCH_SIZE = 8192;
const NONE = () => undefined;

function number(value: unknown): bigint {
  return BigInt.asUintN(64, BigInt(value as number));
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

type Encoder = (fields: Fields, user: UserContext) => Argument;

const ENCODERS: Readonly<Record<string, Encoder>> = {
  VFIO_CHECK_EXTENSION: ({ extension }) => ({ value: number(extension), out: NONE }),
  VFIO_SET_IOMMU: ({ type }) => ({ value: number(type), out: NONE }),
  VFIO_GROUP_UNSET_CONTAINER: () => ({ value: 0n, out: NONE }),
  VFIO_GROUP_SET_CONTAINER: ({ container_fd }, user) => ({
    value: new Uint8Array(Int32Array.of(user.fd(container_fd as string)).buffer),
    out: NONE,
  }),
  VFIO_GROUP_GET_DEVICE_FD: ({ name }, user) => ({
    value: new Uint8Array([...Buffer.from(user.expand(name as string)), 0]),
    out: NONE,
  }),
  VFIO_GROUP_GET_STATUS: (fields) => ({
    value: encodeStruct(GroupStatus, numbers(fields)),
    out: (bytes) => ({ ...decodeStruct(GroupStatus, bytes) }),
  }),
  VFIO_IOMMU_GET_INFO: ({ argsz, flags }) => {
    const value = new Uint8Array(SCRATCH_SIZE).fill(0xa5);
    value.set(encodeStruct(IommuInfo, { argsz: argsz as number, flags: flags as number }).subarray(0, 8));
    return { value, out: (bytes) => infoOut(bytes, argsz as number) };
  },
  VFIO_IOMMU_MAP_DMA: (fields, user) => {
    const value = encodeStruct(DmaMap, {
      argsz: fields.argsz as number,
      flags: fields.flags as number,
      vaddr: user.address(fields.vaddr as Fields),
      iova: toBig(fields.iova),
      size: toBig(fields.size),
    });
    const before = value.slice();
    // The recorder prints `out` only when the structure has changed.
    return { value, out: (bytes) => (Buffer.compare(bytes, before) === 0 ? undefined : { changed: hexBytes(bytes) }) };
  },
  VFIO_IOMMU_UNMAP_DMA: unmapArgument,
  VFIO_IOMMU_DIRTY_PAGES: dirtyArgument,
  VFIO_DEVICE_GET_INFO: ({ argsz }) => ({
    value: join(encodeStruct(DeviceInfo, { argsz: argsz as number }), new Uint8Array(64)),
    out: (bytes) => ({ ...decodeStruct(DeviceInfo, bytes) }),
  }),
  VFIO_DEVICE_GET_REGION_INFO: ({ argsz, index }) => ({
    value: join(encodeStruct(RegionInfo, { argsz: argsz as number, index: index as number }), new Uint8Array(256)),
    out: (bytes) => {
      const { size, offset, ...rest } = decodeStruct(RegionInfo, bytes);
      return { ...rest, size: hexOf(size), offset: hexOf(offset) };
    },
  }),
  VFIO_DEVICE_GET_IRQ_INFO: ({ argsz, index }) => ({
    value: encodeStruct(IrqInfo, { argsz: argsz as number, index: index as number }),
    out: (bytes) => ({ ...decodeStruct(IrqInfo, bytes) }),
  }),
  VFIO_DEVICE_SET_IRQS: ({ argsz, flags, index, start, count, data }, user) => ({
    value: new Uint8Array(
      Int32Array.of(
        argsz as number,
        flags as number,
        index as number,
        start as number,
        count as number,
        data === "valid eventfd" ? user.fd("eventfd") : -1,
      ).buffer,
    ),
    out: NONE,
  }),
};

function numbers(fields: Fields): Record<string, number> {
  return fields as Record<string, number>;
}

function infoOut(bytes: Uint8Array, argsz: number): Fields {
  const info = decodeStruct(IommuInfo, bytes);
  const out: Record<string, unknown> = {
    argsz: info.argsz,
    flags: info.flags,
    iova_pgsizes: hexOf(info.iova_pgsizes),
    cap_offset: info.cap_offset,
  };
  if ((info.flags & 2) !== 0 && info.cap_offset !== 0 && info.cap_offset < 8000 && argsz >= 24)
    out.caps = capsOut(bytes, info.cap_offset, argsz);
  let last = bytes.length;
  while (last > 0 && bytes[last - 1] === 0xa5) last--;
  return { ...out, bytes_until_last_written: hexBytes(bytes.subarray(0, last)) };
}

function capsOut(bytes: Uint8Array, first: number, argsz: number): Fields[] {
  const caps: Fields[] = [];
  for (let at = first; at !== 0 && at < argsz && at < 8100; ) {
    const head = decodeStruct(InfoCapHeader, bytes.subarray(at));
    caps.push({ offset: at, ...head, ...capBody(head.id, bytes.subarray(at + InfoCapHeader.bytes)) });
    at = head.next;
  }
  return caps;
}

function capBody(id: number, body: Uint8Array): Fields {
  switch (id) {
    case 1:
      return {
        name: "IOVA_RANGE",
        iova_ranges: Array.from({ length: decodeStruct(IovaRangeCap, body).nr_iovas }, (_, k) => {
          const range = decodeStruct(IovaRangeStruct, body.subarray(8 + 16 * k));
          return { start: hexOf(range.start), end: hexOf(range.end) };
        }),
      };
    case 2: {
      const migration = decodeStruct(MigrationCap, body);
      return {
        name: "MIGRATION",
        flags: migration.flags,
        pgsize_bitmap: hexOf(migration.pgsize_bitmap),
        max_dirty_bitmap_size: hexOf(migration.max_dirty_bitmap_size),
      };
    }
    default:
      return { name: "DMA_AVAIL", avail: decodeStruct(DmaAvailCap, body).avail };
  }
}

interface RecordedBitmap {
  readonly pgsize: string;
  readonly size: string;
  readonly data: "zeroed" | "null" | "unmapped";
}

function bitmapAddress({ data }: RecordedBitmap, user: UserContext): bigint {
  if (data === "zeroed") return user.scratch;
  return data === "null" ? 0n : 0x1000n;
}

/** As many bytes of the bitmap as the recorder prints. */
function printed({ size }: RecordedBitmap): number {
  const bytes = toBig(size);
  return bytes < 4096n ? Number(bytes) : 4096;
}

function unmapArgument(fields: Fields, user: UserContext): Argument {
  const head = encodeStruct(DmaUnmap, {
    argsz: fields.argsz as number,
    flags: fields.flags as number,
    iova: toBig(fields.iova),
    size: toBig(fields.size),
  });
  const bitmap = fields.bitmap as RecordedBitmap | undefined;
  const out = (bytes: Uint8Array) => {
    const { argsz, flags, iova, size } = decodeStruct(DmaUnmap, bytes);
    return { argsz, flags, iova: hexOf(iova), size: hexOf(size) };
  };
  if (!bitmap) return { value: head, out };
  const tail = encodeStruct(Bitmap, {
    pgsize: toBig(bitmap.pgsize),
    size: toBig(bitmap.size),
    data: bitmapAddress(bitmap, user),
  });
  return {
    value: join(head, tail),
    usesScratch: true,
    out: (bytes, scratch) => ({ ...out(bytes), bitmap: hexBytes(scratch.subarray(0, printed(bitmap))) }),
  };
}

function dirtyArgument(fields: Fields, user: UserContext): Argument {
  const head = encodeStruct(DirtyBitmap, { argsz: fields.argsz as number, flags: fields.flags as number });
  const bitmap = fields.bitmap as RecordedBitmap | undefined;
  if (!bitmap) return { value: join(head, new Uint8Array(64)), out: NONE };
  const range = encodeStruct(DirtyBitmapGet, {
    iova: toBig(fields.iova),
    size: toBig(fields.size),
    pgsize: toBig(bitmap.pgsize),
    bitmap_size: toBig(bitmap.size),
    data: bitmapAddress(bitmap, user),
  });
  return {
    value: join(head, range),
    usesScratch: true,
    out: (_bytes, scratch) => ({ bitmap: hexBytes(scratch.subarray(0, printed(bitmap))) }),
  };
}

/** The recorder handed over a number (`arg`), raw bytes in a buffer of 8 KiB, or a structure by its fields. */
export function argumentOf(request: string, fields: Fields, user: UserContext): Argument {
  if ("arg" in fields) return { value: number(fields.arg), out: NONE };
  if ("bytes" in fields) {
    const given = fromHex(fields.bytes as string);
    const value = new Uint8Array(SCRATCH_SIZE);
    value.set(given);
    return {
      value,
      out: (bytes) => {
        const after = bytes.subarray(0, given.length);
        return Buffer.compare(after, given) === 0 ? undefined : { bytes: hexBytes(after) };
      },
    };
  }
  const encode = ENCODERS[request];
  if (!encode) throw new Error(`the transcript has an ioctl that the runner does not know: ${request}`);
  return encode(fields, user);
}
