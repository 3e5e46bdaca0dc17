/**
 * I-7: between the change of a table and the end of its invalidation, the IOTLB forgets before the ATC does. An ATC that is
 * invalidated first may fill itself again from the stale IOTLB. I-1 finds that when it happens; this finds that it could.
 */
import type { CheckerFactory } from "./checker.js";

interface Change {
  readonly mm: number;
  readonly start: bigint;
  readonly end: bigint;
  /** Units whose translation caches have been invalidated since. */
  readonly units: Set<string>;
}

export const invalidationOrder: CheckerFactory = ({ platform, report }) => {
  const changes: Change[] = [];
  const unitOf = (device: string) => platform.devices.get(device)?.iommu?.name;
  return {
    listeners: {
      "mm:unmapped": ({ mm, start, end }) => void changes.push({ mm, start, end, units: new Set() }),
      "mm:notified": ({ mm, start, end }) => {
        const at = changes.findIndex((change) => change.mm === mm && change.start === start && change.end === end);
        if (at >= 0) changes.splice(at, 1);
      },
      "cache:invalidated": ({ unit, cache }) => {
        if (changes.length > 0 && /tlb/i.test(cache)) for (const { units } of changes) units.add(unit);
      },
      "ats:invalidated": ({ unit: device, pasid, address, size }) => {
        const unit = unitOf(device);
        const mm = platform.sva.ioMmWithPasid(pasid)?.mm.id;
        for (const { mm: changed, start, end, units } of changes) {
          if (changed !== mm || unit === undefined || units.has(unit)) continue;
          if (address >= end || address + size <= start) continue;
          const what = `the ATC of ${device} was invalidated for PASID ${pasid} at 0x${address.toString(16)} before the TLB of ${unit}`;
          report({
            rule: "I-7",
            what,
            should: "the driver invalidates the IOTLB, synchronises, and only then invalidates the ATC",
          });
        }
      },
    },
    begin: () => void changes.splice(0),
    end: () => {},
  };
};
