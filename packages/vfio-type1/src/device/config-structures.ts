/** The structures of a function's configuration space: which bytes belong to which capability (vfio_cap_init, vfio_ecap_init). */
import { CapabilityId, ExtendedCapabilityId, MSI64_MASKED_CAPABILITY, type PciFunction } from "@iommukit/core";

export interface ConfigStructure {
  readonly id: number;
  readonly extended: boolean;
  readonly start: number;
  readonly bytes: number;
}

const CAPABILITIES_LIST = 0x10;

/** Bytes of the capabilities that have a fixed size; what is not here is a head of 4 bytes to VFIO, and raw behind it. */
const LENGTH: ReadonlyMap<number, number> = new Map([
  [CapabilityId.POWER_MANAGEMENT, 8],
  [CapabilityId.PCI_EXPRESS, 0x3c],
  [CapabilityId.MSIX, 12],
]);

const EXTENDED_LENGTH: ReadonlyMap<number, number> = new Map([
  [1, 0x48],
  [ExtendedCapabilityId.ACS, 8],
  [ExtendedCapabilityId.ATS, 8],
  [ExtendedCapabilityId.SRIOV, 0x40],
  [ExtendedCapabilityId.PRI, 16],
  [ExtendedCapabilityId.PASID, 8],
]);

/** 10, 14, 20 or 24 bytes, by the capability's own bits. */
export function msiBytes(pci: PciFunction, at: number): number {
  const head = new Int32Array(MSI64_MASKED_CAPABILITY.words);
  head[0] = pci.readConfig(at, 4);
  const wide = MSI64_MASKED_CAPABILITY.AddressCapable64Bit.get(head) === 1;
  const masked = MSI64_MASKED_CAPABILITY.PerVectorMaskingCapable.get(head) === 1;
  return (wide ? 14 : 10) + (masked ? 10 : 0);
}

export function structuresOf(pci: PciFunction): ConfigStructure[] {
  return [...standard(pci), ...extended(pci)];
}

function* standard(pci: PciFunction): Generator<ConfigStructure> {
  if ((pci.readConfig(0x06, 2) & CAPABILITIES_LIST) === 0) return;
  let start = pci.readConfig(0x34, 1) & 0xfc;
  for (let hops = 0; start >= 0x40 && hops < 48; hops++) {
    const id = pci.readConfig(start, 1);
    const bytes = id === CapabilityId.MSI ? msiBytes(pci, start) : (LENGTH.get(id) ?? 4);
    yield { id, extended: false, start, bytes: Math.min(bytes, 0x100 - start) };
    start = pci.readConfig(start + 1, 1) & 0xfc;
  }
}

function* extended(pci: PciFunction): Generator<ConfigStructure> {
  if (pci.configSize <= 0x100) return;
  let start = 0x100;
  for (let hops = 0; start >= 0x100 && hops < 480; hops++) {
    const head = pci.readConfig(start, 4);
    if (head === 0 || head === 0xffff_ffff) return;
    const id = head & 0xffff;
    yield { id, extended: true, start, bytes: EXTENDED_LENGTH.get(id) ?? 4 };
    start = (head >>> 20) & 0xffc;
  }
}
