/**
 * Physical address space as a translated DMA or a CPU sees it: RAM, memory-mapped registers, MSI doorbells, and windows
 * whose bytes live elsewhere (the frames of a running process).
 */
import { TWO32 } from "../memory/address.js";
import type { PhysicalMemory } from "../memory/physical-memory.js";
import { token } from "../platform/token.js";

/** Something that answers at physical addresses and is not RAM. Offsets are from the region's base. False is a bus error. */
export interface BusRegion {
  readonly name: string;
  readonly base: number;
  readonly size: number;
  read(offset: number, into: Uint8Array): boolean;
  write(offset: number, bytes: Uint8Array): boolean;
}

/** Accesses by physical address, as bytes. Several regions, none of which overlaps another or RAM. */
export interface SystemBus {
  readonly memory: PhysicalMemory;
  /** @returns a function that takes the region off the bus again */
  attach(region: BusRegion): () => void;
  /** Whether nothing but RAM is attached anywhere in the range: what software programs into a BAR may overlap. */
  isFree(base: number, size: number): boolean;
  /** Fills `into` from `pa`. False where nothing answers; part of `into` may then be filled. */
  read(pa: number, into: Uint8Array): boolean;
  write(pa: number, bytes: Uint8Array): boolean;
}
export const SystemBus = token<SystemBus>("SystemBus");

/** The board's SystemBus. */
export class AddressDecoder implements SystemBus {
  readonly #regions: BusRegion[] = [];

  constructor(readonly memory: PhysicalMemory) {}

  #clash(base: number, size: number): BusRegion | undefined {
    return this.#regions.find((other) => base < other.base + other.size && other.base < base + size);
  }

  isFree(base: number, size: number): boolean {
    return this.#clash(base, size) === undefined;
  }

  attach(region: BusRegion): () => void {
    const end = region.base + region.size;
    const clash = this.#clash(region.base, region.size);
    if (clash) throw new Error(`bus: ${region.name} overlaps ${clash.name}`);
    if (end > 2 ** 52) throw new Error(`bus: ${region.name} leaves the 52-bit physical address space`);
    this.#regions.push(region);
    return () => {
      const index = this.#regions.indexOf(region);
      if (index >= 0) this.#regions.splice(index, 1);
    };
  }

  read(pa: number, into: Uint8Array): boolean {
    if (this.memory.readBytes(pa, into)) return true;
    return this.#split(pa, into.length, (region, offset, from, to) => region.read(offset, into.subarray(from, to)));
  }

  write(pa: number, bytes: Uint8Array): boolean {
    if (this.memory.writeBytes(pa, bytes)) return true;
    return this.#split(pa, bytes.length, (region, offset, from, to) => region.write(offset, bytes.subarray(from, to)));
  }

  /** Serves a range region by region; RAM next to a region ends the transfer with a bus error, as on a board. */
  #split(
    pa: number,
    length: number,
    part: (region: BusRegion, offset: number, from: number, to: number) => boolean,
  ): boolean {
    for (let done = 0; done < length; ) {
      const at = pa + done;
      const region = this.#regions.find(({ base, size }) => at >= base && at < base + size);
      if (!region) return false;
      const count = Math.min(length - done, region.base + region.size - at);
      if (!part(region, at - region.base, done, done + count)) return false;
      done += count;
    }
    return true;
  }
}

/** A doorbell: aligned 4-byte writes are messages; everything else is a bus error. */
export function doorbell(
  name: string,
  base: number,
  size: number,
  ring: (address: number, data: number) => boolean,
): BusRegion {
  return {
    name,
    base,
    size,
    read: () => false,
    write: (offset, bytes) => {
      if (bytes.length !== 4 || offset % 4 !== 0) return false;
      const data = (bytes[0] | (bytes[1] << 8) | (bytes[2] << 16)) + bytes[3] * 0x100_0000;
      return ring(base + offset, data % TWO32);
    },
  };
}
