/**
 * What hardware and software know of RAM. Hardware reads table entries in place through `view`; a versioned memory (for
 * exploring interleavings) answers the same call from a scratch copy.
 */
import { token } from "../platform/token.js";

/** A range of RAM: byte address and bytes, whole pages. */
export interface MemoryRegion {
  /** First byte; a multiple of 4 KiB. */
  readonly base: number;
  readonly size: number;
}

/** RAM in one buffer, all of it below one high word. The word of an address is at `((lo >>> 2) - first) & WINDOW_MASK`. */
export interface MemoryWindow {
  readonly words: Int32Array;
  readonly hi: number;
  readonly first: number;
}

/** Indexes of a window's words: 4 GiB of them. */
export const WINDOW_MASK = 0x3fff_ffff;

/** RAM. Addresses are bytes: `pa` up to 2^53, or int32 halves. */
export interface PhysicalMemory {
  readonly regions: readonly MemoryRegion[];
  /**
   * The words of one table entry as a hardware fetch sees them; the first is at index `viewAt` of the answer.
   * Null where no memory is: an external abort. Valid until the next call. `hi`/`lo` is a multiple of 4.
   */
  view(hi: number, lo: number, words: number): Int32Array | null;
  viewAt: number;
  /**
   * The window around an address, for hardware that reads entries in it without `view`; null where no memory is. Absent when
   * each fetch has to be asked for, as of a versioned memory.
   */
  window?(hi: number, lo: number): MemoryWindow | null;
  /** One aligned 8-byte store, as a CPU or a hardware unit does it. False where no memory is. */
  store64(pa: number, hi: number, lo: number): boolean;
  store32(pa: number, value: number): boolean;
  /** Atomic 8-byte read-modify-write (AF, dirty and A/D updates). True when the old value was the expected one. */
  compareExchange64(pa: number, expectedHi: number, expectedLo: number, hi: number, lo: number): boolean;
  /** Reads for software and tests; all ones where no memory is. */
  load32(pa: number): number;
  load64(pa: number): bigint;
  readBytes(pa: number, into: Uint8Array): boolean;
  writeBytes(pa: number, bytes: Uint8Array): boolean;
  fill(pa: number, length: number, byte: number): boolean;
  has(pa: number, length: number): boolean;
}
export const PhysicalMemory = token<PhysicalMemory>("PhysicalMemory");
