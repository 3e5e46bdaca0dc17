/**
 * I-1, on mapped IOVAs: what a device reaches without a PASID is what its domain maps there. From an unmap to the end of its
 * synchronisation the old page is right as well; while the device changes its domain nothing is said.
 */
import { hex, type IommuDomain } from "@iommukit/core";
import type { CheckerFactory } from "./checker.js";

const PAGE = 4096n;

export const domainTranslations: CheckerFactory = ({ platform, report }) => {
  /** Device → the domain that its driver has attached. */
  const attached = new Map<string, number>();
  /** Domain → IOVA page → where it led, until the unmap is synchronised. */
  const going = new Map<number, Map<bigint, number>>();
  /** Domain → IOVA page → where it leads. */
  const mapped = new Map<number, Map<bigint, number>>();
  const of = (map: Map<number, Map<bigint, number>>, domain: number) => {
    const pages = map.get(domain) ?? new Map<bigint, number>();
    map.set(domain, pages);
    return pages;
  };
  const settled = (device: string): IommuDomain | undefined => {
    const domain = platform.devices.get(device)?.group?.domain;
    return domain && domain.id === attached.get(device) && domain.type !== "identity" ? domain : undefined;
  };
  return {
    listeners: {
      "domain:attached": ({ device, domain }) => void attached.set(device, domain),
      "domain:detached": ({ device }) => void attached.delete(device),
      "iommu:mapped": ({ domain, iova, pa, size }) => {
        for (let at = 0n; at < size; at += PAGE) of(mapped, domain).set((iova + at) / PAGE, pa + Number(at));
      },
      "iommu:unmapped": ({ domain, iova, size }) => {
        const pages = of(mapped, domain);
        for (let at = 0n; at < size; at += PAGE) {
          const page = (iova + at) / PAGE;
          of(going, domain).set(page, pages.get(page) ?? -1);
          pages.delete(page);
        }
      },
      "iommu:synced": ({ domain, start, end }) => {
        const pages = of(going, domain);
        for (const page of pages.keys()) if (page * PAGE >= start && page * PAGE <= end) pages.delete(page);
      },
      "dma:moved": ({ device, pasid, address, pa, length, write }) => {
        const domain = pasid >= 0 ? undefined : settled(device);
        if (domain === undefined) return;
        const page = address / PAGE;
        const is = domain.ops.iovaToPhys(domain, address);
        const was = going.get(domain.id)?.get(page);
        if (is === pa || (was !== undefined && was === pa - (pa % 4096))) return;
        const leads = is === undefined ? "maps nothing there" : `maps it to ${hex(is)}`;
        const what = `${device} ${write ? "wrote" : "read"} ${length} bytes at ${hex(pa)} through IOVA ${hex(address)}; domain ${domain.id} ${leads}`;
        report({
          rule: "I-1",
          what,
          should: "IOTLB and ATC forget a translation before an unmap or a change of the domain is over",
        });
      },
    },
    begin: () => going.clear(),
    end: () => {},
  };
};
