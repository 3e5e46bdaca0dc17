/**
 * The common case and nothing else: a plain read or write that an IOTLB entry or the common walk permits, with nobody
 * listening to its steps. Every other request takes the way through `RequestPath`, from the start.
 */
import { Access, NO_PASID, type Translation } from "@iommukit/core";
import type { QuickWalk } from "./quick-walk.js";
import { ALLOWED_SHIFT, ANY_ACCESS } from "./rights.js";
import { ownOf, type TagCache } from "./tag-cache.js";
import { IOTLB_SHIFT, type Iotlb, IotlbWord } from "./translation-cache.js";

// Constants of this module fold into the code below; imported ones are loaded each time.
const ANY = ANY_ACCESS;
const ALLOWED = ALLOWED_SHIFT;
const NONE = NO_PASID;
const { PA_HI, PA_LO, RIGHTS, KIND } = IotlbWord;
const SHIFT = IOTLB_SHIFT;
const PERMS = Access.READ | Access.WRITE | Access.EXEC;
const PLAIN = ~(Access.READ | Access.WRITE | ANY_ACCESS);
const ALL = -1;

/** `private`, not `#`: its byte code is shorter, and the compiler inlines only so much of it. */
export class QuickPath {
  /** Access bits of requests that are not served here: those without PASID, and those with one. */
  private refused = ALL;
  private refusedWithPasid = ALL;
  private readonly tags: TagCache;

  constructor(
    private readonly iotlb: Iotlb,
    private readonly walk: QuickWalk,
  ) {
    this.tags = iotlb.tags;
  }

  /** Sends all requests the whole way, or all with PASID. */
  refuse(all: boolean, withPasid: boolean): void {
    this.refused = all ? ALL : PLAIN;
    this.refusedWithPasid = withPasid ? ALL : PLAIN;
  }

  /** @returns 1 when `out` has the answer, otherwise 0 */
  translate(rid: number, pasid: number, hi: number, lo: number, access: number, out: Translation): number {
    const refused = pasid === NONE ? this.refused : this.refusedWithPasid;
    const needed = access | ANY;
    if ((needed & refused) !== 0) return 0;
    const slot = this.iotlb.find(rid, pasid, hi, lo);
    if (slot < 0) return this.walk.translate(slot, rid, pasid, hi, lo, access, out);
    const { words } = this.tags;
    const at = ownOf(slot);
    const rights = words[at | RIGHTS];
    if ((needed & ~(rights >>> ALLOWED)) !== 0) return 0;
    const shift = words[at | KIND] & SHIFT;
    out.hi = words[at | PA_HI];
    out.lo = words[at | PA_LO] | (lo & ~(-1 << shift));
    out.shift = shift;
    out.perms = rights & PERMS;
    return 1;
  }
}
