/** A TranslationPort of a few lines: pages by PASID and page number, page requests and completions kept for the test. */
import {
  Access,
  type AtsCompletion,
  AtsStatus,
  hiOf,
  type InvalidateCompletion,
  join64,
  loOf,
  NO_PASID,
  type PageRequest,
  type Translation,
  type TranslationPort,
  TranslationStatus,
} from "@iommukit/core";

export interface FakePage {
  readonly pa: number;
  readonly perms: number;
  readonly global?: boolean;
  readonly untranslatedOnly?: boolean;
  readonly shift?: number;
}

export interface FakeRequest {
  readonly rid: number;
  readonly pasid: number;
  readonly address: bigint;
  readonly access: number;
}

export class FakeIommu implements TranslationPort {
  readonly pages = new Map<string, FakePage>();
  readonly pageRequests: PageRequest[] = [];
  readonly completions: InvalidateCompletion[] = [];
  readonly translations: FakeRequest[] = [];
  readonly atsRequests: FakeRequest[] = [];
  /** Stall instead of faulting. */
  stalls = false;
  atsStatus: number = AtsStatus.SUCCESS;
  #nextStag = 1;
  onPageRequest: (request: PageRequest) => void = () => {};

  map(pasid: number, address: bigint, page: FakePage): void {
    this.pages.set(key(pasid, address), page);
  }

  unmap(pasid: number, address: bigint): void {
    this.pages.delete(key(pasid, address));
  }

  translate(rid: number, pasid: number, hi: number, lo: number, access: number, out: Translation): number {
    const address = join64(hi, lo);
    this.translations.push({ rid, pasid, address, access });
    if ((access & Access.TRANSLATED) !== 0) {
      out.hi = hi;
      out.lo = lo;
      out.shift = 64;
      return TranslationStatus.OK;
    }
    const page = this.pages.get(key(pasid, address));
    if (page === undefined || (page.perms & access & 7) !== (access & 7)) {
      out.stag = this.#nextStag;
      if (!this.stalls) return TranslationStatus.FAULT;
      this.#nextStag++;
      return TranslationStatus.STALLED;
    }
    const pa = page.pa + Number(address & 0xfffn);
    out.hi = hiOf(pa);
    out.lo = loOf(pa);
    out.shift = 12;
    return TranslationStatus.OK;
  }

  translationRequest(rid: number, pasid: number, hi: number, lo: number, access: number, out: AtsCompletion): number {
    const address = join64(hi, lo);
    this.atsRequests.push({ rid, pasid, address, access });
    const page = this.pages.get(key(pasid, address));
    out.hi = page ? hiOf(page.pa) : 0;
    out.lo = page ? loOf(page.pa) : 0;
    out.shift = page?.shift ?? 12;
    out.read = page !== undefined && (page.perms & Access.READ) !== 0;
    out.write = page !== undefined && (page.perms & Access.WRITE) !== 0;
    out.execute = page !== undefined && (page.perms & Access.EXEC) !== 0;
    out.global = page?.global ?? false;
    out.untranslatedOnly = page?.untranslatedOnly ?? false;
    return this.atsStatus;
  }

  pageRequest(request: PageRequest): void {
    this.pageRequests.push(request);
    this.onPageRequest(request);
  }

  invalidateCompletion(completion: InvalidateCompletion): void {
    this.completions.push(completion);
  }
}

function key(pasid: number, address: bigint): string {
  return `${pasid === NO_PASID ? "-" : pasid}/${(address >> 12n).toString(16)}`;
}
