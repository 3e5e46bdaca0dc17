/** Inside of mm, pages are numbers: a virtual address / 4096, exact for 64 bits. Addresses are bigint at the edge. */
import { hi32, join64, lo32, PAGE_SHIFT, PAGE_SIZE } from "../memory/address.js";

/** Pages of a 2 MiB block. */
export const BLOCK_PAGES = 512;

/** Bytes of a huge page: 2 MiB. */
export const BLOCK_SIZE = BLOCK_PAGES * PAGE_SIZE;
const PAGES_OF_4G = 2 ** (32 - PAGE_SHIFT);
/** Beyond 64 bits is the end of the last page, and what is wrong. */
const LAST_ADDRESS = 2n ** 64n - 1n;
const ALL_PAGES = 2 ** (64 - PAGE_SHIFT);

/** The page that holds an address. */
export function pageOf(address: bigint): number {
  if (address > LAST_ADDRESS) return Number(address >> BigInt(PAGE_SHIFT));
  return (hi32(address) >>> 0) * PAGES_OF_4G + (lo32(address) >>> PAGE_SHIFT);
}

/** A page's first byte. */
export function addressOf(page: number): bigint {
  if (page >= ALL_PAGES) return BigInt(page) << BigInt(PAGE_SHIFT);
  return join64(Math.floor(page / PAGES_OF_4G), page << PAGE_SHIFT);
}

/** First page of the 2 MiB block that holds the page. */
export function blockOf(page: number): number {
  return Math.floor(page / BLOCK_PAGES) * BLOCK_PAGES;
}
