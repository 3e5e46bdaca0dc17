/**
 * VFIO from a program's side: the ioctls by name, their structures as objects. Every call encodes bytes, makes the system
 * call and decodes bytes, so that it takes the path of any other program.
 */
import type { Task } from "@iommukit/core";
import { CONTAINER_PATH } from "../container.js";
import { Bind, BindProcess, VFIO_IOMMU_BIND_PID, VFIO_IOMMU_BIND_PROCESS } from "../uapi/bind-structs.js";
import { concat } from "../uapi/info-caps.js";
import {
  VFIO_CHECK_EXTENSION,
  VFIO_GET_API_VERSION,
  VFIO_IOMMU_BIND,
  VFIO_IOMMU_DIRTY_PAGES,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_UNBIND,
  VFIO_IOMMU_UNMAP_DMA,
  VFIO_SET_IOMMU,
  VfioExtension,
} from "../uapi/ioctls.js";
import { decodeStruct } from "../uapi/struct.js";
import {
  Bitmap,
  DirtyBitmap,
  DirtyBitmapGet,
  DirtyPagesFlags,
  DmaMap,
  DmaMapFlags,
  DmaUnmap,
  DmaUnmapFlags,
} from "../uapi/type1-structs.js";
import { argument, bytes64 } from "./argument.js";
import { parseIommuInfo, type Type1Info } from "./type1-info.js";
import { VfioGroupClient } from "./vfio-group.js";

const O_RDWR = 2;

/** For `mapDma`: `iova`, `vaddr` and `size` are multiples of the page size, or it is EINVAL. */
export interface DmaMapping {
  readonly iova: bigint;
  readonly vaddr: bigint;
  /** Bytes. */
  readonly size: bigint | number;
  /** DmaMapFlags; READ | WRITE when absent. */
  readonly flags?: number;
}

/** A range of IOVAs; `size` in bytes. */
export interface IovaSpan {
  readonly iova: bigint;
  readonly size: bigint | number;
}

/** A bitmap in the program's memory. */
export interface UserBitmap {
  readonly data: bigint;
  readonly bytes: number;
  readonly pgsize?: number;
}

/** Whose address space BIND and UNBIND are about. */
export interface BindTarget {
  /** The process to bind; the caller when absent. */
  readonly pid?: number;
}

/** /dev/vfio/vfio in a program. Every method throws IommuError with the errno of its ioctl. */
export class VfioContainerClient {
  private constructor(
    readonly task: Task,
    readonly fd: number,
  ) {}

  static async open(task: Task): Promise<VfioContainerClient> {
    return new VfioContainerClient(task, await task.open(CONTAINER_PATH, O_RDWR));
  }

  /** Opens a group by id ("noiommu-3" where no IOMMU is) and puts it into this container. The first one needs `setIommu` afterwards. */
  async attach(group: number | string): Promise<VfioGroupClient> {
    const client = await VfioGroupClient.open(this.task, group);
    try {
      await client.setContainer(this.fd);
    } catch (error) {
      await client.close();
      throw error;
    }
    return client;
  }

  apiVersion(): Promise<number> {
    return this.task.ioctl(this.fd, VFIO_GET_API_VERSION);
  }

  checkExtension(extension: number): Promise<number> {
    return this.task.ioctl(this.fd, VFIO_CHECK_EXTENSION, extension);
  }

  /** VFIO_SET_IOMMU, after the first `attach`. @param type a VfioExtension. @throws IommuError EINVAL, ENODEV it cannot be had */
  async setIommu(type: number = VfioExtension.TYPE1v2_IOMMU): Promise<void> {
    await this.task.ioctl(this.fd, VFIO_SET_IOMMU, type);
  }

  /** With all capabilities: asks for the size first. */
  async info(): Promise<Type1Info> {
    return parseIommuInfo((bytes) => this.task.ioctl(this.fd, VFIO_IOMMU_GET_INFO, bytes));
  }

  /**
   * VFIO_IOMMU_MAP_DMA. @throws IommuError EINVAL not in pages, or outside of the IOVA ranges; EEXIST over a mapping; EFAULT no such
   *   memory; ENOMEM over RLIMIT_MEMLOCK; ENOSPC over dma_entry_limit
   */
  async mapDma({ iova, vaddr, size, flags = DmaMapFlags.READ | DmaMapFlags.WRITE }: DmaMapping): Promise<void> {
    const arg = argument(DmaMap, { argsz: DmaMap.bytes, flags, vaddr, iova, size: bytes64(size) });
    await this.task.ioctl(this.fd, VFIO_IOMMU_MAP_DMA, arg);
  }

  /** @returns bytes unmapped; 0 when nothing was mapped. @throws IommuError EINVAL not aligned, or (v2) it would cut a mapping */
  async unmapDma(span: IovaSpan, bitmap?: UserBitmap): Promise<bigint> {
    const flags = bitmap ? DmaUnmapFlags.GET_DIRTY_BITMAP : 0;
    return this.#unmap(flags, span, bitmap);
  }

  /** Everything. A range other than none is refused with EINVAL. */
  unmapAll(span: IovaSpan = { iova: 0n, size: 0n }): Promise<bigint> {
    return this.#unmap(DmaUnmapFlags.ALL, span);
  }

  /** The memory behind the range will come back at another address. */
  invalidateVaddr(span: IovaSpan): Promise<bigint> {
    return this.#unmap(DmaUnmapFlags.VADDR, span);
  }

  async #unmap(flags: number, span: IovaSpan, bitmap?: UserBitmap): Promise<bigint> {
    const tail = bitmap
      ? argument(Bitmap, { pgsize: bitmap.pgsize ?? 4096, size: bytes64(bitmap.bytes), data: bitmap.data })
      : new Uint8Array(0);
    const range = { iova: span.iova, size: bytes64(span.size) };
    const arg = concat(argument(DmaUnmap, { argsz: DmaUnmap.bytes + tail.length, flags, ...range }), tail);
    await this.task.ioctl(this.fd, VFIO_IOMMU_UNMAP_DMA, arg);
    return decodeStruct(DmaUnmap, arg).size;
  }

  async startDirtyTracking(): Promise<void> {
    await this.#dirty(DirtyPagesFlags.START);
  }

  async stopDirtyTracking(): Promise<void> {
    await this.#dirty(DirtyPagesFlags.STOP);
  }

  /** Fills a bitmap in the program's memory, one bit a page. */
  async getDirtyBitmap({ iova, size }: IovaSpan, bitmap: UserBitmap): Promise<void> {
    const range = argument(DirtyBitmapGet, {
      iova,
      size: bytes64(size),
      pgsize: bitmap.pgsize ?? 4096,
      bitmap_size: bytes64(bitmap.bytes),
      data: bitmap.data,
    });
    await this.#dirty(DirtyPagesFlags.GET_BITMAP, range);
  }

  async #dirty(flags: number, tail: Uint8Array = new Uint8Array(0)): Promise<void> {
    const argsz = DirtyBitmap.bytes + tail.length;
    await this.task.ioctl(this.fd, VFIO_IOMMU_DIRTY_PAGES, concat(argument(DirtyBitmap, { argsz, flags }), tail));
  }

  /**
   * VFIO_IOMMU_BIND: an address space for every device of the container. @returns its PASID, the same when it is bound already
   * @throws IommuError EINVAL no IOMMU, or a group of several devices; ESRCH no such process; EACCES it may not be traced;
   *   ENODEV a device or driver cannot; ENOSPC no PASID is free; ENOTTY in profiles of real kernels
   */
  async bind(target: BindTarget = {}): Promise<number> {
    const arg = bindArgument(target);
    await this.task.ioctl(this.fd, VFIO_IOMMU_BIND, arg);
    return decodeStruct(BindProcess, arg.subarray(Bind.bytes)).pasid;
  }

  /** VFIO_IOMMU_UNBIND; returns when no device uses the address space any more. @throws IommuError ESRCH not bound */
  async unbind(target: BindTarget = {}): Promise<void> {
    await this.task.ioctl(this.fd, VFIO_IOMMU_UNBIND, bindArgument(target));
  }

  close(): Promise<void> {
    return this.task.close(this.fd);
  }
}

function bindArgument({ pid }: BindTarget): Uint8Array {
  return concat(
    argument(Bind, { argsz: Bind.bytes + BindProcess.bytes, flags: VFIO_IOMMU_BIND_PROCESS }),
    argument(BindProcess, { flags: pid === undefined ? 0 : VFIO_IOMMU_BIND_PID, pid: pid ?? 0 }),
  );
}
