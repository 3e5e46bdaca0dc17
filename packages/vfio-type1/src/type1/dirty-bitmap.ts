/**
 * The dirty bits of one mapping and their way into the user's bitmap (F25). A vfio-pci device cannot tell what it wrote, so
 * every mapped page counts as dirty; an emulated device writes only what its driver pins, or writes for it.
 *
 * A mapping that does not start at a multiple of 64 pages from the asked IOVA shares its first word with what is before
 * it: that word is read back from the user and joined. Kernels shift the stored bitmap itself for that, and later clear only
 * as many bits as the mapping has pages: what the shift moved beyond them is reported at a later GET (`staleDirtyBits`).
 */
import { PAGE_SIZE, type UserPointer } from "@iommukit/core";
import type { VfioDma } from "./dma.js";
import { invalid, MAX_BITMAP_PAGES } from "./range-checks.js";

const WORD = 64n;
const ALL = 0xffff_ffff_ffff_ffffn;

/**
 * Begins to keep the mapping's dirty bits, with one spare word for the shift: what drivers have pinned is dirty.
 * @throws IommuError EINVAL a mapping of more pages than a bitmap may have (vfio_dma_bitmap_alloc)
 */
export function allocBitmap(dma: VfioDma, pgsize: bigint): void {
  const pages = dma.size / pgsize;
  if (pages > MAX_BITMAP_PAGES) throw invalid(`dirty bits for ${pages} pages; at most ${MAX_BITMAP_PAGES}`);
  dma.bitmap = new BigUint64Array(words(pages) + 1);
  markPinned(dma, pgsize);
}

/** vfio_dma_populate_bitmap: a page that a driver holds may be written at any time. */
function markPinned(dma: VfioDma, pgsize: bigint): void {
  for (const page of dma.external.keys()) markDirty(dma, page * PAGE_SIZE, 1, pgsize);
}

/** Bytes of the mapping have been written, or may be. */
export function markDirty({ bitmap }: VfioDma, offset: number, length: number, pgsize: bigint): void {
  if (!bitmap) return;
  const size = Number(pgsize);
  for (let page = Math.floor(offset / size); page * size < offset + length; page++)
    bitmap[page >>> 6] |= 1n << BigInt(page & 63);
}

/** Its domains go away: what devices wrote through them was not recorded. */
export function markAllDirty({ bitmap, size, mapped }: VfioDma, pgsize: bigint): void {
  if (bitmap && mapped) setBits(bitmap, size / pgsize);
}

function words(bits: bigint): number {
  return Number((bits + WORD - 1n) / WORD);
}

/** update_user_bitmap: copies the bits out; those of a mapping that a domain translates are all set. @throws IommuError EFAULT */
export async function reportDirty(
  user: UserPointer,
  dma: VfioDma,
  base: bigint,
  pgsize: bigint,
  stale: boolean,
): Promise<void> {
  const pages = dma.size / pgsize;
  const first = (dma.iova - base) / pgsize;
  const shift = first % WORD;
  const offset = Number(first / WORD) * 8;
  const stored = dma.bitmap ?? new BigUint64Array(words(pages) + 1);
  if (dma.mapped) setBits(stored, pages);
  const bits = stale ? stored : stored.slice();
  if (shift !== 0n) {
    shiftLeft(bits, shift, words(pages + shift));
    bits[0] |= toWord(await user.copyFrom(8, offset));
  }
  await user.copyTo(toBytes(bits, words(pages + shift)), offset);
}

/** After a GET: what drivers hold stays dirty. Bits beyond the last page are not touched. */
export function clearDirty(dma: VfioDma, pgsize: bigint): void {
  if (dma.bitmap) clearBits(dma.bitmap, dma.size / pgsize);
  markPinned(dma, pgsize);
}

function setBits(bits: BigUint64Array, count: bigint): void {
  const whole = Number(count / WORD);
  bits.fill(ALL, 0, whole);
  if (count % WORD !== 0n) bits[whole] |= (1n << (count % WORD)) - 1n;
}

function clearBits(bits: BigUint64Array, count: bigint): void {
  const whole = Number(count / WORD);
  bits.fill(0n, 0, whole);
  if (count % WORD !== 0n) bits[whole] &= ALL ^ ((1n << (count % WORD)) - 1n);
}

/** bitmap_shift_left by less than a word, over `length` words; bits of the last one are not masked. */
function shiftLeft(bits: BigUint64Array, shift: bigint, length: number): void {
  for (let k = length - 1; k >= 0; k--) {
    const lower = k > 0 ? bits[k - 1] >> (WORD - shift) : 0n;
    bits[k] = ((bits[k] << shift) & ALL) | lower;
  }
}

function toWord(bytes: Uint8Array): bigint {
  return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
}

function toBytes(bits: BigUint64Array, count: number): Uint8Array {
  const bytes = new Uint8Array(count * 8);
  const view = new DataView(bytes.buffer);
  for (let k = 0; k < count; k++) view.setBigUint64(k * 8, bits[k], true);
  return bytes;
}
