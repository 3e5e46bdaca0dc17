/** Which entries of the TLB an invalidation takes out (3.17, 4.4). */
import { highMaskFrom, lowMaskFrom } from "./address-bits.js";
import { ENTRY, ORIGIN, TAG } from "./tlb-entry.js";

/** What an invalidation takes out. -1 in a number means any. */
export interface TlbScope {
  kind: number;
  world: number;
  asid: number;
  vmid: number;
  /** Bits of the VMID that count (CR0.VMW). */
  vmidMask: number;
  /** With `asid`: global entries too. */
  globals: boolean;
  /** Entries of ASIDs that broadcast maintenance does not share are left alone. */
  sharedOnly: boolean;
  /** A range of addresses, both ends in; compared on bits 55:12. */
  ranged: boolean;
  firstHi: number;
  firstLo: number;
  lastHi: number;
  lastLo: number;
  /** Final-level entries only: walk caches keep theirs. */
  leaf: boolean;
  /** Granule and level that a range invalidation names; 0 for any. */
  granule: number;
  level: number;
}

/** Whether it takes out the entry that begins at `at`. */
export function covers(scope: TlbScope, words: Int32Array, at: number): boolean {
  const tag = words[at + ENTRY.TAG];
  const origin = words[at + ENTRY.ORIGIN];
  const tags = words[at + ENTRY.ASID_VMID];
  if (scope.kind >= 0 && ((tag >>> TAG.KIND) & 1) !== scope.kind) return false;
  if (scope.world >= 0 && ((tag >>> TAG.WORLD) & 3) !== scope.world) return false;
  if (scope.vmid >= 0 && (((tags >>> 16) ^ scope.vmid) & scope.vmidMask) !== 0) return false;
  if (scope.asid >= 0) {
    if ((tag & TAG.GLOBAL) !== 0 ? !scope.globals : (tags & 0xffff) !== scope.asid) return false;
  }
  if (scope.sharedOnly && ((origin >>> ORIGIN.ASET) & 1) === 1) return false;
  if (!scope.ranged) return true;
  if (scope.granule !== 0 && ((origin >>> ORIGIN.GRANULE) & 3) !== scope.granule) return false;
  if (scope.level !== 0 && ((origin >>> ORIGIN.LEVEL) & 3) !== scope.level) return false;
  const span = (origin >>> ORIGIN.SPAN) & 0x3f;
  return overlaps(words[at + ENTRY.VA_HI] & highMaskFrom(span), words[at] & lowMaskFrom(span), span, scope);
}

/** Does a block of 2^shift bytes at hi:lo touch the scope's range? Bits 63:56 do not count. */
function overlaps(hi: number, lo: number, shift: number, scope: TlbScope): boolean {
  const endHi = (hi | ~highMaskFrom(shift)) & 0x00ff_ffff;
  const endLo = lo | ~lowMaskFrom(shift);
  return (
    !below(endHi, endLo, scope.firstHi & 0x00ff_ffff, scope.firstLo) &&
    !below(scope.lastHi & 0x00ff_ffff, scope.lastLo, hi & 0x00ff_ffff, lo)
  );
}

function below(aHi: number, aLo: number, bHi: number, bLo: number): boolean {
  return aHi === bHi ? aLo >>> 0 < bLo >>> 0 : aHi >>> 0 < bHi >>> 0;
}
