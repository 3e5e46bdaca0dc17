/** pci_dev->resource: where the kernel found the device's BARs when the driver was bound. What a program writes to them later changes only its own view. */
import { PAGE_SIZE, type PciBar, type PciFunction, TYPE0_HEADER } from "@iommukit/core";
import { PciRegion } from "../uapi/device-structs.js";

const FIRST_BAR = TYPE0_HEADER.BAR0.word * 4;
const ROM = TYPE0_HEADER.ExpansionROMBaseAddress.word * 4;
/** PCI_BASE_ADDRESS_SPACE_IO, _MEM_TYPE_64, _MEM_PREFETCH. */
const IO_FLAG = 1;
const MEM64_FLAG = 4;
const PREFETCH_FLAG = 8;

export interface Resource {
  readonly bar: PciBar;
  /** Physical address; 0 when firmware has not placed it. */
  readonly address: number;
  /** Low bits of the register: kind and prefetchable. */
  readonly flags: number;
}

export function barOffset(index: number): number {
  return index === PciRegion.ROM ? ROM : FIRST_BAR + 4 * index;
}

export function resourcesOf(pci: PciFunction): ReadonlyMap<number, Resource> {
  return new Map(pci.bars.map((bar) => [bar.index, { bar, address: addressOf(pci, bar), flags: flagsOf(bar) }]));
}

function flagsOf({ kind, prefetchable }: PciBar): number {
  if (kind === "io") return IO_FLAG;
  return (kind === "mem64" ? MEM64_FLAG : 0) | (prefetchable ? PREFETCH_FLAG : 0);
}

function addressOf(pci: PciFunction, { index, kind, size }: PciBar): number {
  const low = pci.readConfig(barOffset(index), 4);
  const high = kind === "mem64" ? pci.readConfig(barOffset(index) + 4, 4) : 0;
  return high * 2 ** 32 + low - (low % Math.max(16, Math.min(size, PAGE_SIZE)));
}
