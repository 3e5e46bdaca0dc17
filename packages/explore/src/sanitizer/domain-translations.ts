/** I-1, on mapped IOVAs: after an unmap has been synchronised nothing of a domain reaches the range. */
import type { CheckerFactory } from "./checker.js";

const PAGE = 4096n;
const hex = (value: number | bigint) => `0x${value.toString(16)}`;

export const domainTranslations: CheckerFactory = ({ report }) => {
  /** Domain → IOVA pages that were unmapped and synchronised, and not mapped since. */
  const gone = new Map<number, Set<bigint>>();
  /** Domain → IOVA pages that were unmapped. */
  const going = new Map<number, Set<bigint>>();
  const domainOf = new Map<string, number>();
  const of = (map: Map<number, Set<bigint>>, domain: number) => {
    const set = map.get(domain) ?? new Set();
    map.set(domain, set);
    return set;
  };
  return {
    listeners: {
      "domain:attached": ({ device, domain }) => void domainOf.set(device, domain),
      "domain:detached": ({ device, domain }) => {
        if (domainOf.get(device) === domain) domainOf.delete(device);
      },
      "iommu:mapped": ({ domain, iova, size }) => {
        for (let at = iova / PAGE; at * PAGE < iova + BigInt(size); at++) {
          of(gone, domain).delete(at);
          of(going, domain).delete(at);
        }
      },
      "iommu:unmapped": ({ domain, iova, size }) => {
        for (let at = iova / PAGE; at * PAGE < iova + BigInt(size); at++) of(going, domain).add(at);
      },
      "iommu:synced": ({ domain, start, end }) => {
        const waiting = of(going, domain);
        for (const page of waiting) {
          if (page * PAGE < start || page * PAGE > end) continue;
          of(gone, domain).add(page);
          waiting.delete(page);
        }
      },
      "dma:moved": ({ device, pasid, address, pa, length, write }) => {
        const domain = domainOf.get(device);
        if (pasid >= 0 || domain === undefined || !of(gone, domain).has(address / PAGE)) return;
        const what = `${device} ${write ? "wrote" : "read"} ${length} bytes at ${hex(pa)} through IOVA ${hex(address)}, which domain ${domain} has unmapped`;
        report({ rule: "I-1", what, should: "iotlb_sync returns when no IOTLB and no ATC holds the range any more" });
      },
    },
    begin() {
      gone.clear();
      going.clear();
    },
    end: () => {},
  };
};
