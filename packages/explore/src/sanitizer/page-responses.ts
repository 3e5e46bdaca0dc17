/** I-2: every last page request has exactly one response with its index; the others, and functions that are gone, have none. */
import type { CheckerFactory } from "./checker.js";

export const pageResponses: CheckerFactory = ({ platform, report }) => {
  /** "device PASID index" of groups that wait. */
  const open = new Map<string, number>();
  const key = (rid: number, pasid: number, prgi: number) =>
    `requester 0x${rid.toString(16)} ${pasid < 0 ? "without PASID" : `PASID ${pasid}`} group ${prgi}`;
  /** What waits in its place. */
  const waits = (rid: number, prgi: number) => {
    const other = [...open.keys()].find(
      (name) => name.startsWith(`requester 0x${rid.toString(16)} `) && name.endsWith(` group ${prgi}`),
    );
    return other === undefined ? "does not wait for one" : `does not wait for one; what waits is ${other}`;
  };
  const should = "the IOMMU driver answers the last request of a group once, and nothing else";
  const forget = (rid: number) => {
    for (const name of open.keys()) if (name.startsWith(`requester 0x${rid.toString(16)} `)) open.delete(name);
  };
  return {
    listeners: {
      "pri:requested": ({ unit, rid, pasid, prgi, last, access }) => {
        // The device tells that it asked; stop markers ask for nothing (E11).
        if (!platform.devices.has(unit) || !last || access === 0) return;
        const name = key(rid, pasid, prgi);
        open.set(name, (open.get(name) ?? 0) + 1);
      },
      "pri:answered": ({ rid, pasid, prgi }) => {
        const name = open.has(key(rid, pasid, prgi)) ? key(rid, pasid, prgi) : key(rid, -1, prgi);
        const count = open.get(name) ?? 0;
        if (count === 0)
          report({ rule: "I-2", what: `a response to ${key(rid, pasid, prgi)}, which ${waits(rid, prgi)}`, should });
        else if (count === 1) open.delete(name);
        else open.set(name, count - 1);
      },
      "device:reset": ({ rid }) => forget(rid),
    },
    begin: () => open.clear(),
    end() {
      for (const name of open.keys()) report({ rule: "I-2", what: `${name} was never answered`, should });
    },
  };
};
