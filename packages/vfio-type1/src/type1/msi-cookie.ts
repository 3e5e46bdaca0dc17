/**
 * The window for messages in an unmanaged domain: where an IOMMU translates message interrupts like any other write, the
 * doorbell is mapped into the IOVAs that the driver reserves for it (SW_MSI, F21). Elsewhere messages pass untranslated.
 */
import { type IommuGroup, IommuProt, iommuMap, type KernelLog, PAGE_SIZE } from "@iommukit/core";
import type { VfioDomain, VfioIommuGroup } from "./domain.js";
import { unmapAnyway } from "./pinning.js";
import type { VfioIommu } from "./vfio-iommu.js";

const PAGE = BigInt(PAGE_SIZE);

/** iommu_dma_prepare_msi. @returns the address that the device has to use */
export async function prepareMessage(iommu: VfioIommu, iommuGroup: IommuGroup, address: number): Promise<bigint> {
  return iommu.lock.with(async () => {
    const found = iommu.findGroup(iommuGroup);
    const window = found && windowOf(found.group);
    if (!found || !window) return BigInt(address);
    const page = address - (address % PAGE_SIZE);
    return (await mapDoorbell(found.domain, window.start, page)) + BigInt(address - page);
  });
}

/** A hardware window makes a software one needless. */
function windowOf({ reserved }: VfioIommuGroup) {
  return reserved.some(({ type }) => type === "msi") ? undefined : reserved.find(({ type }) => type === "sw-msi");
}

async function mapDoorbell({ domain, doorbells }: VfioDomain, base: bigint, page: number): Promise<bigint> {
  const mapped = doorbells.get(page);
  if (mapped !== undefined) return mapped;
  const iova = base + BigInt(doorbells.size) * PAGE;
  await iommuMap(domain, iova, page, PAGE, IommuProt.WRITE | IommuProt.NOEXEC | IommuProt.MMIO);
  doorbells.set(page, iova);
  return iova;
}

export async function unmapDoorbells(log: KernelLog, domain: VfioDomain): Promise<void> {
  for (const iova of domain.doorbells.values()) await unmapAnyway(log, domain, iova, PAGE);
  domain.doorbells.clear();
}
