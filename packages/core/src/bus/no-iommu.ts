/** Where no IOMMU is: every address is a physical one, and nobody translates for a device or knows a PASID. */
import type { TranslationPort } from "./ports.js";
import { Access, AtsStatus, NO_PASID, type Translation, TranslationStatus } from "./transaction.js";

export class NoIommu implements TranslationPort {
  translate(_rid: number, pasid: number, hi: number, lo: number, _access: number, out: Translation): number {
    if (pasid !== NO_PASID) return TranslationStatus.UNSUPPORTED;
    out.hi = hi;
    out.lo = lo;
    out.shift = 64;
    out.perms = Access.READ | Access.WRITE;
    return TranslationStatus.OK;
  }

  translationRequest(): number {
    return AtsStatus.UR;
  }

  pageRequest(): void {}

  invalidateCompletion(): void {}
}
