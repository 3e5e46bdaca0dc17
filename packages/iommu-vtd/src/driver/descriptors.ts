/**
 * Invalidation descriptors as Linux's driver forms them (VT-d 6.5.2; qi_desc_* of drivers/iommu/intel/iommu.h): the fields
 * from values, ranges widened to what a descriptor can say. Every range that comes out covers the range that went in.
 */
import { hi32, lo32, PAGE_SHIFT } from "@iommukit/core";
import * as Qi from "../spec/invalidation.js";

/** Its 32-bit words, lowest first. */
export type Descriptor = Int32Array;

/** A naturally aligned power of two of pages. */
export interface AlignedRange {
  readonly address: bigint;
  /** log2 of the number of 4 KiB pages. */
  readonly mask: number;
}

/** log2 of the pages of the whole address space: MAX_AGAW_PFN_WIDTH of Linux. */
export const WHOLE_SPACE = 64 - PAGE_SHIFT;

/** The smallest aligned block that holds every byte from `start` to `end`, both inclusive (H14). */
export function alignedRange(start: bigint, end: bigint): AlignedRange {
  // The highest bit in which the two differ is the block's.
  const hi = hi32(start) ^ hi32(end);
  const bits = hi === 0 ? 32 - Math.clz32(lo32(start) ^ lo32(end)) : 64 - Math.clz32(hi);
  const mask = Math.max(0, bits - PAGE_SHIFT);
  const shift = BigInt(mask + PAGE_SHIFT);
  return { address: (start >> shift) << shift, mask };
}

/** cc_inv_dsc (6.5.2.1). */
export function contextInvalidate(granularity: "global" | "domain" | "device", did = 0, sid = 0): Descriptor {
  return Qi.CONTEXT_CACHE_INVALIDATE.encode({ TYPE: "contextCache", G: granularity, DID: did, SID: sid });
}

/** pc_inv_dsc (6.5.2.2). */
export function pasidCacheInvalidate(granularity: "global" | "domain" | "pasid", did = 0, pasid = 0): Descriptor {
  return Qi.PASID_CACHE_INVALIDATE.encode({ TYPE: "pasidCache", G: granularity, DID: did, PASID: pasid });
}

/** Draining is asked for where the unit can do it (CAP.DWD, CAP.DRD). */
export interface Drain {
  readonly DWD: boolean;
  readonly DRD: boolean;
}

/** iotlb_inv_dsc of a domain or all (6.5.2.3). */
export function iotlbInvalidate(drain: Drain, granularity: "global" | "domain", did = 0): Descriptor {
  return Qi.IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: granularity, DW: drain.DWD, DR: drain.DRD, DID: did });
}

/**
 * The two that unmaps queue by the thousand, stored field by field.
 * @param leafOnly IH: no table was removed, so paging-structure caches stay valid
 */
export function iotlbInvalidatePages(drain: Drain, did: number, range: AlignedRange, leafOnly: boolean): Descriptor {
  const { TYPE, G, DW, DR, DID } = Qi.IOTLB_INVALIDATE;
  const words = new Int32Array(Qi.IOTLB_INVALIDATE.words);
  TYPE.setPair(words, 0, 0, Qi.DescriptorType.IOTLB);
  G.setPair(words, 0, 0, PAGE_GRANULARITY);
  DW.setPair(words, 0, 0, Number(drain.DWD));
  DR.setPair(words, 0, 0, Number(drain.DRD));
  DID.setPair(words, 0, 0, did);
  return withRange(Qi.IOTLB_INVALIDATE, words, range, leafOnly);
}

/** p_iotlb_inv_dsc of a range within a PASID (6.5.2.4). */
export function pasidIotlbInvalidatePages(
  did: number,
  pasid: number,
  range: AlignedRange,
  leafOnly: boolean,
): Descriptor {
  const { TYPE, G, DID, PASID } = Qi.PASID_IOTLB_INVALIDATE;
  const words = new Int32Array(Qi.PASID_IOTLB_INVALIDATE.words);
  TYPE.setPair(words, 0, 0, Qi.DescriptorType.PASID_IOTLB);
  G.setPair(words, 0, 0, PAGE_GRANULARITY);
  DID.setPair(words, 0, 0, did);
  PASID.setPair(words, 0, 0, pasid);
  return withRange(Qi.PASID_IOTLB_INVALIDATE, words, range, leafOnly);
}

const PAGE_GRANULARITY = 3;

function withRange(
  { AM, IH, ADDR }: typeof Qi.IOTLB_INVALIDATE | typeof Qi.PASID_IOTLB_INVALIDATE,
  words: Int32Array,
  { address, mask }: AlignedRange,
  leafOnly: boolean,
): Descriptor {
  AM.setPair(words, 0, 0, mask);
  IH.setPair(words, 0, 0, Number(leafOnly));
  ADDR.setPair(words, 0, hi32(address), lo32(address));
  return words;
}

/** p_iotlb_inv_dsc of a whole PASID (6.5.2.4). */
export function pasidIotlbInvalidate(did: number, pasid: number): Descriptor {
  return Qi.PASID_IOTLB_INVALIDATE.encode({ TYPE: "pasidIotlb", G: "pasid", DID: did, PASID: pasid });
}

/** What a device-TLB descriptor says of the device. */
export interface DeviceTlbTarget {
  readonly rid: number;
  /** Requester id of the physical function; 0 when the unit does not throttle (ECAP.DIT = 0). */
  readonly pfsid: number;
  /** ATS queue depth of the device, 1 to 32; the field says 0 for 32. */
  readonly qdep: number;
}

const MAX_INVALIDATIONS = 32;

type DeviceTlbLayout = typeof Qi.DEVICE_TLB_INVALIDATE | typeof Qi.PASID_DEVICE_TLB_INVALIDATE;

/** The device's fields and the range's. */
function aimed(layout: DeviceTlbLayout, words: Descriptor, device: DeviceTlbTarget, range: AlignedRange): Descriptor {
  const { rid, pfsid, qdep } = device;
  const { address, size } = sized(range);
  return layout.assign(words, {
    SID: rid,
    PFSID_LO: pfsid & 0xf,
    PFSID_HI: pfsid >> 4,
    MIP: qdep >= MAX_INVALIDATIONS ? 0 : qdep,
    ADDR: address,
    S: size,
  });
}

/**
 * Address and S of a device-TLB descriptor: with S, the lowest zero bit above the page offset gives the size (H14).
 * The whole space is bits 62:12 set and bit 63 clear.
 */
function sized({ address, mask }: AlignedRange): { readonly address: bigint; readonly size: boolean } {
  if (mask === 0) return { address, size: false };
  const ones = ((1n << BigInt(mask - 1)) - 1n) << BigInt(PAGE_SHIFT);
  return { address: (address & ~((1n << BigInt(mask + PAGE_SHIFT)) - 1n)) | ones, size: true };
}

/** dev_tlb_inv_dsc (6.5.2.5). */
export function deviceTlbInvalidate(device: DeviceTlbTarget, range: AlignedRange): Descriptor {
  const words = Qi.DEVICE_TLB_INVALIDATE.encode({ TYPE: "deviceTlb" });
  return aimed(Qi.DEVICE_TLB_INVALIDATE, words, device, range);
}

/** p_dev_tlb_inv_dsc (6.5.2.6). */
export function pasidDeviceTlbInvalidate(device: DeviceTlbTarget, pasid: number, range: AlignedRange): Descriptor {
  const words = Qi.PASID_DEVICE_TLB_INVALIDATE.encode({ TYPE: "pasidDeviceTlb", PASID: pasid });
  return aimed(Qi.PASID_DEVICE_TLB_INVALIDATE, words, device, range);
}

/** Entries of every PASID of the device. */
export function globalDeviceTlbInvalidate(device: DeviceTlbTarget): Descriptor {
  const words = Qi.PASID_DEVICE_TLB_INVALIDATE.encode({ TYPE: "pasidDeviceTlb", G: true });
  return aimed(Qi.PASID_DEVICE_TLB_INVALIDATE, words, device, { address: 0n, mask: WHOLE_SPACE });
}

/** Later descriptors start when earlier ones are done; nothing is written, nobody is interrupted. */
export function fence(): Descriptor {
  return Qi.INVALIDATION_WAIT.encode({ TYPE: "wait", FN: true });
}

/** Where a wait descriptor writes that all before it is done. */
export interface WaitStatus {
  readonly address: number;
  readonly data: number;
  /** Waits for page requests and responses as well (ECAP.PDS). */
  readonly drain: boolean;
}

/** inv_wait_dsc that writes a status. */
export function waitWithStatus({ address, data, drain }: WaitStatus): Descriptor {
  return Qi.INVALIDATION_WAIT.encode({ TYPE: "wait", SW: true, PD: drain, SDATA: data, SADDR: address });
}

/** Answer to a page request group. */
export interface GroupResponse {
  readonly rid: number;
  readonly pasid: number | undefined;
  readonly prgi: number;
  readonly code: "success" | "invalid" | "failure";
  /** LPIG, which revision 4 reserves. */
  readonly last: boolean;
}

/** page_grp_resp_dsc. */
export function pageGroupResponse({ rid, pasid, prgi, code, last }: GroupResponse): Descriptor {
  return Qi.PAGE_GROUP_RESPONSE.encode({
    TYPE: "pageGroupResponse",
    PP: pasid !== undefined,
    RC: code,
    RID: rid,
    PASID: pasid ?? 0,
    LPIG: last,
    PRGI: prgi,
  });
}

/** First and second quad-word, as Linux prints them. */
export function quadWords(descriptor: Descriptor): [bigint, bigint] {
  const at = (word: number) => (BigInt(descriptor[word + 1] >>> 0) << 32n) | BigInt(descriptor[word] >>> 0);
  return [at(0), at(2)];
}
