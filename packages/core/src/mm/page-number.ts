/** Inside of mm, pages are numbers: a virtual address / 4096, exact for 64 bits. Addresses are bigint at the edge. */
import { PAGE_SHIFT, PAGE_SIZE } from "../memory/address.js";

/** Pages of a 2 MiB block. */
export const BLOCK_PAGES = 512;
export const BLOCK_SIZE = BLOCK_PAGES * PAGE_SIZE;

export function pageOf(address: bigint): number {
  return Number(address >> BigInt(PAGE_SHIFT));
}

export function addressOf(page: number): bigint {
  return BigInt(page) << BigInt(PAGE_SHIFT);
}

/** First page of the 2 MiB block that holds the page. */
export function blockOf(page: number): number {
  return Math.floor(page / BLOCK_PAGES) * BLOCK_PAGES;
}
