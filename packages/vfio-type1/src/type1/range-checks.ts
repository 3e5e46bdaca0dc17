/** Checks that MAP, UNMAP and DIRTY_PAGES share. */
import { hex, IommuError } from "@iommukit/core";
import { U64_MAX } from "../uapi/struct.js";

export function invalid(message: string): IommuError {
  return new IommuError("EINVAL", message);
}

/** @throws IommuError with `errno` when `[start, start + size)` goes beyond 2^64; it may end there */
export function checkWrap(errno: "EINVAL" | "EOVERFLOW", what: string, start: bigint, size: bigint): void {
  if (start + size > U64_MAX + 1n) throw new IommuError(errno, `${what} ${hex(start)} + ${hex(size)} goes beyond 2^64`);
}

/** DIRTY_BITMAP_PAGES_MAX, and the bytes of such a bitmap. */
export const MAX_BITMAP_PAGES = 0x7fff_ffffn;
export const MAX_BITMAP_BYTES = 0x1000_0000n;

/** A bitmap is whole 64-bit words. */
export function bitmapBytes(pages: bigint): bigint {
  return ((pages + 63n) / 64n) * 8n;
}

/** verify_bitmap_size. @throws IommuError EINVAL */
export function checkBitmapSize(pages: bigint, size: bigint): void {
  if (pages === 0n || size === 0n || size > MAX_BITMAP_BYTES || size < bitmapBytes(pages))
    throw invalid(`a bitmap of ${size} bytes for ${pages} pages; ${bitmapBytes(pages)} to ${MAX_BITMAP_BYTES} bytes`);
}

/** access_ok: the range lies in the user's half of the address space. @throws IommuError EINVAL */
export function checkUserRange(address: bigint, size: bigint): void {
  if (size > USER_END || address > USER_END - size)
    throw invalid(`${size} bytes at ${hex(address)} are not in the user's address space`);
}

/** TASK_SIZE_MAX of x86-64 with four levels; arm64 with 48 bits has one page more. */
const USER_END = 0x7fff_ffff_f000n;
