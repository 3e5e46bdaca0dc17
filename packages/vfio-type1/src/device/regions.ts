/** The regions of a PCI device in its file: the index in the bits above 40, the offset below (vfio_pci_core). */
import { hex, IommuError, type PciBar, type PciFunction } from "@iommukit/core";
import { PciRegion, RegionFlags } from "../uapi/device-structs.js";

const OFFSET_SHIFT = 40;
const OFFSET_SPAN = 2 ** OFFSET_SHIFT;

export interface Region {
  readonly index: number;
  readonly size: number;
  readonly flags: number;
}

export function regionOffset(index: number): bigint {
  return BigInt(index) << BigInt(OFFSET_SHIFT);
}

export class DeviceRegions {
  constructor(readonly pci: PciFunction) {}

  /** @throws IommuError EINVAL no such region */
  get(index: number): Region {
    if (index === PciRegion.CONFIG)
      return { index, size: this.pci.configSize, flags: RegionFlags.READ | RegionFlags.WRITE };
    if (index === PciRegion.ROM)
      return { index, size: this.#bar(index)?.size ?? 0, flags: this.#bar(index) ? RegionFlags.READ : 0 };
    if (index < PciRegion.ROM) return this.#barRegion(index);
    throw new IommuError("EINVAL", `${this.pci.bdf} has no region ${index}`);
  }

  #barRegion(index: number): Region {
    const bar = this.#bar(index);
    if (!bar) return { index, size: 0, flags: 0 };
    const mappable = bar.kind !== "io" && bar.size >= 4096;
    return { index, size: bar.size, flags: RegionFlags.READ | RegionFlags.WRITE | (mappable ? RegionFlags.MMAP : 0) };
  }

  #bar(index: number): PciBar | undefined {
    return this.pci.bars.find((bar) => bar.index === index);
  }

  /** @returns bytes read; 0 at the end of a region. @throws IommuError EINVAL no such region, EIO nothing answers */
  read(into: Uint8Array, position: number): number {
    return this.#access(position, into.length, (index, offset, from, to) =>
      this.#readPart(index, offset, into.subarray(from, to)),
    );
  }

  write(bytes: Uint8Array, position: number): number {
    return this.#access(position, bytes.length, (index, offset, from, to) =>
      this.#writePart(index, offset, bytes.subarray(from, to)),
    );
  }

  /** Cuts a transfer into the accesses that reach the device: naturally aligned, at most 4 bytes in configuration space. */
  #access(
    position: number,
    length: number,
    part: (index: number, offset: number, from: number, to: number) => void,
  ): number {
    const index = Math.floor(position / OFFSET_SPAN);
    const offset = position % OFFSET_SPAN;
    const { size } = this.get(index);
    if (size === 0) throw new IommuError("EINVAL", `${this.pci.bdf}: region ${index} is empty`);
    if (offset > size) throw new IommuError("EINVAL", `${this.pci.bdf}: ${hex(offset)} is beyond region ${index}`);
    const count = Math.min(length, size - offset);
    const widest = 4;
    for (let done = 0; done < count; ) {
      const at = offset + done;
      let width = widest;
      while (at % width !== 0 || width > count - done) width >>= 1;
      part(index, at, done, done + width);
      done += width;
    }
    return count;
  }

  #readPart(index: number, offset: number, into: Uint8Array): void {
    if (index === PciRegion.CONFIG) {
      const value = this.pci.readConfig(offset, into.length as 1 | 2 | 4);
      for (let k = 0; k < into.length; k++) into[k] = (value >>> (8 * k)) & 0xff;
    } else if (!this.pci.readBar(index, offset, into)) {
      throw new IommuError("EIO", `${this.pci.bdf}: BAR ${index} does not answer at ${hex(offset)}`);
    }
  }

  #writePart(index: number, offset: number, bytes: Uint8Array): void {
    if (index === PciRegion.CONFIG) {
      const value = bytes.reduce((sum, byte, k) => sum + byte * 2 ** (8 * k), 0);
      this.pci.writeConfig(offset, bytes.length as 1 | 2 | 4, value);
    } else if (!this.pci.writeBar(index, offset, bytes)) {
      throw new IommuError("EIO", `${this.pci.bdf}: BAR ${index} does not answer at ${hex(offset)}`);
    }
  }
}
