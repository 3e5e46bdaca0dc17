/** Causes that the faulting address gives away, on every IOMMU. */
import type { Facts } from "../record.js";
import type { CauseRule } from "./rule.js";

/** Widths of DMA masks and IOVA spaces that allocations are made from the top of. */
const WIDTHS = [32n, 36n, 39n, 40n, 42n, 44n, 46n, 47n, 48n];
/** GITS_TRANSLATER's offset in its page. */
const TRANSLATER = 0x40n;
/** HyperTransport's interrupt and EOI range, sign-extended or not. */
const AMD_INTERRUPTS = [0xfd_f800_0000n, 0xffff_fffd_f800_0000n];

/** Faults that say "nothing there for this access", however the unit says it. */
function missing({ iommu, code, interrupt, permission }: Facts): boolean {
  if (interrupt) return false;
  if (iommu === "vtd") return [0x05, 0x06, 0x71, 0x79].includes(code ?? 0);
  if (iommu === "smmuv3") return code === 0x10;
  return iommu === "amd-vi" && permission === false;
}

/** The top 1/16 of a space of one of the usual widths. */
export function nearTop(address: bigint): bigint | undefined {
  return WIDTHS.find((width) => address < 1n << width && address >= (1n << width) - (1n << (width - 4n)));
}

export const ADDRESS_RULES: readonly CauseRule[] = [
  {
    id: "iova-top-of-space",
    title: "the device used a DMA address after it was unmapped, or one cut by a DMA mask wider than the device's",
    weight: (facts) => (missing(facts) && facts.address !== undefined && nearTop(facts.address) !== undefined ? 90 : 0),
    because:
      "the address is just below a power of two: Linux gives out IOVAs from the top of the mask downwards, so it was very likely a valid mapping once, not a wild pointer such as -1",
    distinguish:
      "unmapped too early: the faults come while the driver stops, resets or frees, and trace iommu:unmap shows the address before them; a mask too wide: they come in normal work, as soon as addresses above the device's real width are used",
    attempt:
      "boot with iommu.forcedac=1 (addresses above 4 GiB from the start: a wrong mask fails at once); record iommu:map and iommu:unmap and look for the address",
    sources: [
      "iommu list 2021-10-25 <7a5123b0-6370-59dc-f0c2-8be5b370d9ba@molgen.mpg.de>",
      "Linux commit ec5bc2cc69b4: the same picture on hns RoCE after kill -9",
    ],
  },
  {
    id: "address-zero",
    title: "the device works from a descriptor or register that still holds 0",
    weight: (facts) => (missing(facts) && facts.address !== undefined && facts.address < 0x1000n ? 85 : 0),
    because: "the address lies in the first page, which no allocator gives out",
    distinguish:
      "look whether the driver has been loaded yet: before it, firmware or the device itself makes the traffic",
    attempt: "check that rings and descriptors are filled before the device is enabled (bus mastering last)",
    sources: ["deepin-community/kernel pull 979", "opencomputeproject/OpenNetworkLinux pull 897"],
  },
  {
    id: "msi-doorbell",
    title: "an MSI: the interrupt controller's doorbell is not mapped for the device",
    weight: ({ iommu, code, access, address }) =>
      iommu === "smmuv3" &&
      code === 0x10 &&
      access !== "read" &&
      address !== undefined &&
      (address & 0xfffn) === TRANSLATER
        ? 95
        : 0,
    because:
      "a write to offset 0x40 of a page is a write to GITS_TRANSLATER, and behind an SMMU it is translated as every other",
    distinguish: "the offset is always 0x040 and the device's interrupts do not arrive",
    attempt:
      "map the doorbell for the domain that the device is in (iommu-dma's MSI page, VFIO's software MSI window, Xen's ITS mapping)",
    sources: [
      "linux-iommu, [PATCH 07/24] iommu/dma: Move domain lookup, reply with event 0x10 at 0xffffe040",
      "xen-devel, ITS doorbell mapping, v9: event 0x10 at 0x08090040",
    ],
  },
  {
    id: "amd-interrupt-range",
    title: "an interrupt or EOI message that the IOMMU does not let through",
    weight: ({ iommu, address, interrupt }) =>
      iommu === "amd-vi" &&
      (interrupt ||
        AMD_INTERRUPTS.some((base) => address !== undefined && address >= base && address < base + 0x100_0000n))
        ? 95
        : 0,
    because:
      "addresses from 0xfd_f800_0000 are the HyperTransport interrupt and EOI range, and flag I marks an interrupt request",
    distinguish: "the address is no memory at all: page tables do not matter, interrupt remapping entries do",
    attempt: "look at the interrupt remapping table entry of the device; compare with interrupt remapping off",
    sources: [
      "xen-devel 2024-01, AMD-Vi IO_PAGE_FAULT flags 0x8 I: reply by A. Cooper",
      "AMD 48882, IO_PAGE_FAULT event",
    ],
  },
];

export { missing };
