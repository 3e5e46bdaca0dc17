/**
 * The regions of a PCI device in its file (the index in the bits above 40, the offset below): configuration space through
 * the permission map, BARs and the ROM as they are, MSI-X table apart.
 */
import { hex, IommuError, PAGE_SIZE, type PciFunction } from "@iommukit/core";
import { PciRegion, RegionCapId, RegionFlags, RegionInfo } from "../uapi/device-structs.js";
import { capChain, type InfoCap } from "../uapi/info-caps.js";
import { encodeStruct } from "../uapi/struct.js";
import type { MsixVectors } from "./msi-vectors.js";
import type { Resource } from "./resources.js";
import type { VirtualConfig } from "./virtual-config.js";

const OFFSET_SHIFT = 40;
export const REGION_SPAN = 2 ** OFFSET_SHIFT;

export function regionOffset(index: number): bigint {
  return BigInt(index) << BigInt(OFFSET_SHIFT);
}

interface Region {
  readonly size: number;
  readonly flags: number;
}

type Part = (offset: number, from: number, to: number) => Promise<void> | void;

export class DeviceRegions {
  constructor(
    private readonly pci: PciFunction,
    private readonly resources: ReadonlyMap<number, Resource>,
    private readonly config: VirtualConfig,
    private readonly msix: MsixVectors,
  ) {}

  /** @throws IommuError EINVAL no such region */
  get(index: number): Region {
    if (index === PciRegion.CONFIG) return { size: this.config.size, flags: RegionFlags.READ | RegionFlags.WRITE };
    if (index > PciRegion.ROM) throw new IommuError("EINVAL", `${this.pci.bdf} has no region ${index}`);
    const resource = this.resources.get(index);
    if (!resource) return { size: 0, flags: 0 };
    const { size } = resource.bar;
    if (index === PciRegion.ROM) return { size, flags: RegionFlags.READ };
    return { size, flags: RegionFlags.READ | RegionFlags.WRITE | (mappable(resource) ? RegionFlags.MMAP : 0) };
  }

  /** The structure and its capabilities: a BAR that holds the MSI-X table says that the whole of it may be mapped. */
  info(index: number, argsz: number): { readonly head: Uint8Array; readonly caps: Uint8Array } {
    const { size, flags } = this.get(index);
    const own: InfoCap[] =
      (flags & RegionFlags.MMAP) !== 0 && this.msix.table?.bar === index
        ? [{ id: RegionCapId.MSIX_MAPPABLE, version: 1, body: new Uint8Array(0) }]
        : [];
    const caps = capChain(own, RegionInfo.bytes, 8);
    const needed = RegionInfo.bytes + caps.length;
    const fits = caps.length > 0 && argsz >= needed;
    const head = encodeStruct(RegionInfo, {
      argsz: caps.length > 0 && !fits ? needed : argsz,
      flags: flags | (caps.length > 0 ? RegionFlags.CAPS : 0),
      index,
      cap_offset: fits ? RegionInfo.bytes : 0,
      size: BigInt(size),
      offset: regionOffset(index),
    });
    return { head, caps: fits ? caps : new Uint8Array(0) };
  }

  /** @returns bytes read: fewer at the end of a region. @throws IommuError EINVAL, EIO nothing answers */
  async read(into: Uint8Array, position: number): Promise<number> {
    const { index, offset, count } = this.#place(position, into.length);
    if (index === PciRegion.CONFIG) {
      await cut(offset, count, 4, (at, from, to) => {
        const value = this.config.read(at, (to - from) as 1 | 2 | 4);
        for (let k = from; k < to; k++) into[k] = (value >>> (8 * (k - from))) & 0xff;
      });
    } else {
      await cut(offset, count, 8, (at, from, to) => {
        const part = into.subarray(from, to);
        // The MSI-X table is the kernel's.
        if (this.#inMsixTable(index, at)) part.fill(0xff);
        else if (!this.pci.readBar(index, at, part)) throw this.#noAnswer(index, at);
      });
    }
    return count;
  }

  async write(bytes: Uint8Array, position: number): Promise<number> {
    const { index, offset, count } = this.#place(position, bytes.length);
    if (index === PciRegion.ROM) throw new IommuError("EINVAL", `${this.pci.bdf}: the ROM cannot be written`);
    if (index === PciRegion.CONFIG) {
      await cut(offset, count, 4, (at, from, to) => {
        const value = bytes.subarray(from, to).reduceRight((high, byte) => high * 256 + byte, 0);
        return this.config.write(at, (to - from) as 1 | 2 | 4, value);
      });
    } else {
      await cut(offset, count, 8, (at, from, to) => {
        if (this.#inMsixTable(index, at)) return;
        if (!this.pci.writeBar(index, at, bytes.subarray(from, to))) throw this.#noAnswer(index, at);
      });
    }
    return count;
  }

  #place(
    position: number,
    length: number,
  ): { readonly index: number; readonly offset: number; readonly count: number } {
    const index = Math.floor(position / REGION_SPAN);
    const offset = position % REGION_SPAN;
    const { size } = this.get(index);
    if (index === PciRegion.CONFIG && offset + length > size)
      throw new IommuError(
        "EFAULT",
        `${this.pci.bdf}: ${hex(length)} bytes at ${hex(offset)} leave configuration space`,
      );
    if (offset >= size) throw new IommuError("EINVAL", `${this.pci.bdf}: ${hex(offset)} is beyond region ${index}`);
    return { index, offset, count: Math.min(length, size - offset) };
  }

  #inMsixTable(index: number, offset: number): boolean {
    const { table } = this.msix;
    return table !== undefined && table.bar === index && offset >= table.offset && offset < table.offset + table.bytes;
  }

  #noAnswer(index: number, offset: number): IommuError {
    return new IommuError("EIO", `${this.pci.bdf}: BAR ${index} does not answer at ${hex(offset)}`);
  }

  /**
   * What a mapping of the file shows: the BAR's physical pages, as long as memory space is enabled (V-12).
   * @throws IommuError EINVAL not a BAR that can be mapped, or not inside of it
   */
  physical(position: number, length: number): { readonly address: number } {
    const index = Math.floor(position / REGION_SPAN);
    const offset = position % REGION_SPAN;
    const resource = index < PciRegion.ROM ? this.resources.get(index) : undefined;
    if (!resource || !mappable(resource))
      throw new IommuError("EINVAL", `${this.pci.bdf}: region ${index} cannot be mapped`);
    if (offset % PAGE_SIZE !== 0 || offset + length > resource.bar.size)
      throw new IommuError("EINVAL", `${this.pci.bdf}: ${hex(length)} bytes at ${hex(offset)} leave BAR ${index}`);
    return { address: resource.address + offset };
  }
}

function mappable({ bar }: Resource): boolean {
  return bar.kind !== "io" && bar.size >= PAGE_SIZE;
}

/** Cuts a transfer into naturally aligned accesses of at most `widest` bytes. */
async function cut(offset: number, count: number, widest: number, part: Part): Promise<void> {
  for (let done = 0; done < count; ) {
    let width = widest;
    while ((offset + done) % width !== 0 || width > count - done) width >>= 1;
    await part(offset + done, done, done + width);
    done += width;
  }
}
