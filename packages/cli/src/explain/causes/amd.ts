/** Causes of AMD-Vi page faults by their flags. */
import type { CauseRule } from "./rule.js";

export const AMD_RULES: readonly CauseRule[] = [
  {
    id: "amd-unmapped",
    title: "the address is not mapped: never was, or not any more",
    weight: ({ iommu, permission, interrupt }) => (iommu === "amd-vi" && permission === false && !interrupt ? 55 : 0),
    because: "flag PR is clear: the walk found no translation, and whether it was a read or a write is not recorded",
    distinguish:
      "record iommu:map and iommu:unmap: never mapped is a wrong address, mapped before is a use after unmap",
    attempt: "iommu=pt: if it goes away the driver gives the device physical addresses",
    sources: ["AMD 48882, IO_PAGE_FAULT event", "pop-os/pop 853"],
  },
  {
    id: "amd-permission",
    title: "mapped, and the access is not allowed",
    weight: ({ iommu, permission }) => (iommu === "amd-vi" && permission === true ? 80 : 0),
    because: "flag PR is set: a translation was found; with PE it lacks the permission, RW says for which direction",
    distinguish:
      "RW+ on a buffer mapped for reading by the device is the wrong direction, or a device that writes where it should not",
    attempt:
      "look at the direction given to dma_map_*; compare the address with /proc/iomem when the domain is an identity mapping",
    sources: ["AMD 48882, IO_PAGE_FAULT event", "Dasharo/dasharo-issues 1134"],
  },
];
