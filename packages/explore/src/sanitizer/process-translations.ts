/**
 * I-1, on translations of processes: what a device reaches with a PASID is what the process has at that address now. While an
 * invalidation of the address is under way both the old and the new are right.
 */
import { AddressSpace, hex, PAGE_SIZE, PageFlag } from "@iommukit/core";
import type { CheckerFactory } from "./checker.js";

interface Range {
  readonly start: bigint;
  readonly end: bigint;
}

export const processTranslations: CheckerFactory = ({ platform, report }) => {
  const under = new Map<number, Range[]>();
  const changing = (mm: number, address: bigint) =>
    under.get(mm)?.some(({ start, end }) => address >= start && address < end) ?? false;
  return {
    listeners: {
      "mm:unmapped": ({ mm, start, end }) => {
        under.set(mm, [...(under.get(mm) ?? []), { start, end }]);
      },
      "mm:notified": ({ mm, start, end }) => {
        const ranges = under.get(mm) ?? [];
        const at = ranges.findIndex((range) => range.start === start && range.end === end);
        if (at >= 0) ranges.splice(at, 1);
      },
      "dma:moved": ({ device, pasid, address, pa, write }) => {
        if (pasid < 0) return;
        const mm = platform.sva.ioMmWithPasid(pasid)?.mm;
        if (!(mm instanceof AddressSpace) || changing(mm.id, address)) return;
        const resident = mm.mappings.pages.get(Number(address / BigInt(PAGE_SIZE)));
        const should = "IOTLB and ATC forget a translation before the change of the address space is over";
        const via = `${device} with PASID ${pasid} at ${hex(address)} of ${mm.owner}`;
        if (!resident) report({ rule: "I-1", what: `${via} reached ${hex(pa)}; nothing is mapped there`, should });
        else if (pa - (pa % PAGE_SIZE) !== resident.pa)
          report({ rule: "I-1", what: `${via} reached ${hex(pa)}; its page is ${hex(resident.pa)}`, should });
        else if (write && (resident.flags & PageFlag.WRITE) === 0)
          report({ rule: "I-1", what: `${via} wrote ${hex(pa)}, which the process may not write`, should });
      },
    },
    begin: () => under.clear(),
    end: () => {},
  };
};
