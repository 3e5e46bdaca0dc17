/** I-3: a PASID is free when nothing speaks of it any more: no page request, no group being handled, no ATC entry, no stall. */
import type { CheckerFactory } from "./checker.js";

const should = "who unbinds drains the queues and invalidates every cache, and then gives the PASID back";

export const pasidReuse: CheckerFactory = ({ platform, report }) => {
  /** PASID → what waits, as text. */
  const requests = new Map<number, Set<string>>();
  const of = (pasid: number) => {
    const set = requests.get(pasid) ?? new Set();
    requests.set(pasid, set);
    return set;
  };
  /** PASID → devices bound with it. */
  const bonds = new Map<number, Set<string>>();
  return {
    listeners: {
      "bond:created": ({ device, pasid }) => void bonds.set(pasid, (bonds.get(pasid) ?? new Set()).add(device)),
      "bond:removed": ({ device, pasid }) => void bonds.get(pasid)?.delete(device),
      "pri:requested": ({ unit, pasid, prgi, access }) => {
        if (platform.devices.has(unit) && access !== 0) of(pasid).add(`page request group ${prgi} of ${unit}`);
      },
      // The answer is in the IOMMU's queue: whatever the next owner of the PASID needs comes behind it.
      "iopf:answered": ({ device, pasid, grpid }) => void of(pasid).delete(`page request group ${grpid} of ${device}`),
      "pri:answered": ({ rid, pasid, prgi }) => {
        for (const { name, rid: own } of platform.devices.values()) {
          if (own === rid) of(pasid).delete(`page request group ${prgi} of ${name}`);
        }
      },
      "stall:opened": ({ unit, pasid, stag }) => void of(pasid).add(`stalled transaction ${stag} of ${unit}`),
      "stall:resolved": ({ unit, stag }) => {
        for (const set of requests.values()) set.delete(`stalled transaction ${stag} of ${unit}`);
      },
      "pasid:freed": ({ pasid }) => {
        for (const what of of(pasid))
          report({ rule: "I-3", what: `PASID ${pasid} is free, and ${what} is open`, should });
        for (const [name, device] of platform.devices) {
          const cached = device.pci.cachedTranslations?.(pasid) ?? 0;
          if (cached > 0)
            report({
              rule: "I-3",
              what: `PASID ${pasid} is free, and the ATC of ${name} has ${cached} entries of it`,
              should,
            });
        }
        for (const device of bonds.get(pasid) ?? [])
          report({ rule: "I-3", what: `PASID ${pasid} is free, and ${device} is bound with it`, should });
      },
    },
    begin: () => requests.clear(),
    end: () => {},
  };
};
