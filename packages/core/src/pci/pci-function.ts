/** What the kernel, VFIO and the IOMMU drivers know of a PCI function: its address, its configuration space, its BARs. */
import type { CachedEntry, RequesterPort } from "../bus/ports.js";

/** A base address register: `size` in bytes, a power of two. */
export interface PciBar {
  /** 0 … 5; 6 is the expansion ROM. */
  readonly index: number;
  readonly size: number;
  readonly kind: "mem32" | "mem64" | "io";
  readonly prefetchable: boolean;
}

/** What a DevicePlugin makes. `PciDevice` of @iommukit/pci-device implements all of it. */
export interface PciFunction {
  /** "0000:01:00.0". */
  readonly bdf: string;
  readonly segment: number;
  /** bus << 8 | device << 3 | function. */
  readonly rid: number;
  /** False after surprise removal: reads give all ones, messages are lost. */
  readonly present: boolean;
  /** Configuration space in accesses of 1, 2 or 4 bytes, naturally aligned. Side effects happen as on the wire. */
  readConfig(offset: number, width: 1 | 2 | 4): number;
  writeConfig(offset: number, width: 1 | 2 | 4, value: number): void;
  /** Size of configuration space: 256 or 4096. */
  readonly configSize: number;
  readonly bars: readonly PciBar[];
  /** Registers and memory behind a BAR. False when the BAR does not decode that offset or width. */
  readBar(bar: number, offset: number, into: Uint8Array): boolean;
  writeBar(bar: number, offset: number, bytes: Uint8Array): boolean;
  /** Messages from the IOMMU. */
  readonly requester: RequesterPort;
  /** Legacy interrupt pin level changes; MSI and MSI-X are writes that the function makes itself. */
  onIntx(listener: (asserted: boolean) => void): void;
  /** Power and link are gone, after the function was unplugged or without warning: nothing of it answers any more. */
  remove?(): void;
  /** Entries of its address translation cache with that PASID; for reports and checks. */
  cachedTranslations?(pasid: number): number;
  /** What that cache holds now; for reports. */
  cacheContents?(): readonly CachedEntry[];
  /** Bridges between this function and the root complex, nearest first. */
  readonly upstream: readonly PciFunction[];
  /** What its requests carry when they reach the IOMMU, where a bridge puts its own id there; `rid` when absent (I14). */
  readonly requesterId?: number;
  /** The function whose VF this is. */
  readonly physicalFunction?: PciFunction | undefined;
  /** It is behind an external-facing port: ATS stays off (pci_dev.untrusted). */
  readonly untrusted?: boolean;
}

/** Byte offset of a capability with that id; 0 when the function has none. */
export function findCapability(pci: PciFunction, id: number): number {
  if ((pci.readConfig(0x06, 2) & 0x10) === 0) return 0;
  for (
    let at = pci.readConfig(0x34, 1) & 0xfc, hops = 0;
    at >= 0x40 && hops < 48;
    at = pci.readConfig(at + 1, 1) & 0xfc, hops++
  ) {
    if (pci.readConfig(at, 1) === id) return at;
  }
  return 0;
}

/** As findCapability, in extended configuration space (offset 0x100 and up). */
export function findExtendedCapability(pci: PciFunction, id: number): number {
  if (pci.configSize <= 256) return 0;
  for (let at = 0x100, hops = 0; at >= 0x100 && hops < 960; hops++) {
    const header = pci.readConfig(at, 4);
    if (header === 0 || header === 0xffff_ffff) return 0;
    if ((header & 0xffff) === id) return at;
    at = (header >>> 20) & 0xffc;
  }
  return 0;
}
