/**
 * Descriptors of the invalidation queue (VT-d 6.5.2). Each stands in 128 bits; in 256-bit queues (IQA.DW = 1, the only
 * kind in scalable mode) the upper 128 bits are reserved. Types take bits 3:0 and, from revision 3 on, 11:9. Left out: the
 * host permission table's descriptor (6.5.2.7).
 */
import { addr, bit, type FieldSpecs, layout, oneOf, reserved, uint } from "@iommukit/core";

/** Type of a descriptor: bits 3:0, and bits 11:9 above them. */
export const DescriptorType = {
  CONTEXT: 1,
  IOTLB: 2,
  DEVICE_TLB: 3,
  INTERRUPT_ENTRY: 4,
  WAIT: 5,
  PASID_IOTLB: 6,
  PASID_CACHE: 7,
  PASID_DEVICE_TLB: 8,
  PAGE_GROUP_RESPONSE: 9,
} as const;

const TYPES = {
  contextCache: 1,
  iotlb: 2,
  deviceTlb: 3,
  interruptEntryCache: 4,
  wait: 5,
  pasidIotlb: 6,
  pasidCache: 7,
  pasidDeviceTlb: 8,
  pageGroupResponse: 9,
} as const;

/** Bytes of one slot in the queue; the log2 is what IQH and IQT count in. */
export const DESCRIPTOR_SHIFT = 4;
export const WIDE_DESCRIPTOR_SHIFT = 5;

function descriptor<const F extends FieldSpecs>(name: string, section: string, fields: F) {
  return layout(
    { name, bits: 128, spec: `VT-d ${section}` },
    {
      TYPE: oneOf(3, 0, TYPES, "descriptor type, bits 3:0"),
      TYPE_HI: uint(11, 9, "descriptor type, bits 6:4"),
      ...fields,
    },
  );
}

export const CONTEXT_CACHE_INVALIDATE = descriptor("cc_inv_dsc", "6.5.2.1", {
  G: oneOf(5, 4, { global: 1, domain: 2, device: 3 }, "granularity"),
  R0: reserved(8, 6),
  R1: reserved(15, 12),
  DID: uint(31, 16, "domain-id"),
  SID: uint(47, 32, "source-id"),
  FM: uint(49, 48, "function mask: how many low bits of the function number are ignored"),
  R2: reserved(63, 50),
  R3: reserved(127, 64),
});

export const PASID_CACHE_INVALIDATE = descriptor("pc_inv_dsc", "6.5.2.2", {
  G: oneOf(5, 4, { domain: 0, pasid: 1, global: 3 }, "granularity"),
  R0: reserved(8, 6),
  R1: reserved(15, 12),
  DID: uint(31, 16, "domain-id"),
  PASID: uint(51, 32, "PASID"),
  R2: reserved(63, 52),
  R3: reserved(127, 64),
});

export const IOTLB_INVALIDATE = descriptor("iotlb_inv_dsc", "6.5.2.3", {
  G: oneOf(5, 4, { global: 1, domain: 2, page: 3 }, "granularity"),
  DW: bit(6, "drain writes"),
  DR: bit(7, "drain reads"),
  R0: reserved(8),
  R1: reserved(15, 12),
  DID: uint(31, 16, "domain-id"),
  R2: reserved(63, 32),
  AM: uint(69, 64, "address mask: 2^n pages"),
  IH: bit(70, "only leaf entries changed"),
  R3: reserved(75, 71),
  ADDR: addr(127, 76, "address"),
});

export const PASID_IOTLB_INVALIDATE = descriptor("p_iotlb_inv_dsc", "6.5.2.4", {
  G: oneOf(5, 4, { pasid: 2, page: 3 }, "granularity"),
  R0: reserved(8, 6),
  R1: reserved(15, 12),
  DID: uint(31, 16, "domain-id"),
  PASID: uint(51, 32, "PASID"),
  R2: reserved(63, 52),
  AM: uint(69, 64, "address mask: 2^n pages"),
  IH: bit(70, "only leaf entries changed"),
  R3: reserved(75, 71),
  ADDR: addr(127, 76, "address"),
});

export const DEVICE_TLB_INVALIDATE = descriptor("dev_tlb_inv_dsc", "6.5.2.5", {
  R0: reserved(8, 4),
  PFSID_LO: uint(15, 12, "source-id of the physical function, bits 3:0", { condition: "ECAP.DIT" }),
  MIP: uint(20, 16, "invalidations that the device may have pending (QDEP)"),
  R1: reserved(31, 21),
  SID: uint(47, 32, "source-id"),
  R2: reserved(51, 48),
  PFSID_HI: uint(63, 52, "source-id of the physical function, bits 15:4", { condition: "ECAP.DIT" }),
  S: bit(64, "the address holds a size: its lowest zero bit"),
  R3: reserved(75, 65),
  ADDR: addr(127, 76, "address"),
});

export const PASID_DEVICE_TLB_INVALIDATE = descriptor("p_dev_tlb_inv_dsc", "6.5.2.6", {
  MIP: uint(8, 4, "invalidations that the device may have pending (QDEP)"),
  PFSID_LO: uint(15, 12, "source-id of the physical function, bits 3:0", { condition: "ECAP.DIT" }),
  SID: uint(31, 16, "source-id"),
  PASID: uint(51, 32, "PASID"),
  PFSID_HI: uint(63, 52, "source-id of the physical function, bits 15:4", { condition: "ECAP.DIT" }),
  G: bit(64, "entries of every PASID"),
  R0: reserved(74, 65),
  S: bit(75, "the address holds a size: its lowest zero bit"),
  ADDR: addr(127, 76, "address"),
});

export const INTERRUPT_ENTRY_CACHE_INVALIDATE = descriptor("iec_inv_dsc", "6.5.2.8", {
  G: oneOf(4, 4, { global: 0, index: 1 }, "granularity"),
  R0: reserved(8, 5),
  R1: reserved(26, 12),
  IM: uint(31, 27, "index mask: 2^n entries"),
  IIDX: uint(47, 32, "interrupt index"),
  R2: reserved(63, 48),
  R3: reserved(127, 64),
});

export const INVALIDATION_WAIT = descriptor("inv_wait_dsc", "6.5.2.9", {
  IF: bit(4, "raise the completion interrupt"),
  SW: bit(5, "write the status data"),
  FN: bit(6, "fence: later descriptors start after earlier ones are done"),
  PD: bit(7, "drain page requests", { condition: "ECAP.PDS" }),
  R0: reserved(8),
  R1: reserved(31, 12),
  SDATA: uint(63, 32, "status data"),
  R2: reserved(65, 64),
  SADDR: addr(127, 66, "where the status data goes"),
});

export const PAGE_GROUP_RESPONSE = descriptor("page_grp_resp_dsc", "7.6.1", {
  PP: bit(4, "the response has a PASID"),
  R0: reserved(8, 5),
  RC: oneOf(15, 12, { success: 0, invalid: 1, failure: 15 }, "response code"),
  RID: uint(31, 16, "requester id"),
  PASID: uint(51, 32, "PASID"),
  R1: reserved(63, 52),
  R2: reserved(65, 64),
  LPIG: bit(66, "last page in group; reserved since revision 4, drivers before 6.13 copy it from the request"),
  PRGI: uint(75, 67, "page request group index"),
  R3: reserved(127, 76),
});

/** By DescriptorType. */
export const DESCRIPTORS = {
  [DescriptorType.CONTEXT]: CONTEXT_CACHE_INVALIDATE,
  [DescriptorType.IOTLB]: IOTLB_INVALIDATE,
  [DescriptorType.DEVICE_TLB]: DEVICE_TLB_INVALIDATE,
  [DescriptorType.INTERRUPT_ENTRY]: INTERRUPT_ENTRY_CACHE_INVALIDATE,
  [DescriptorType.WAIT]: INVALIDATION_WAIT,
  [DescriptorType.PASID_IOTLB]: PASID_IOTLB_INVALIDATE,
  [DescriptorType.PASID_CACHE]: PASID_CACHE_INVALIDATE,
  [DescriptorType.PASID_DEVICE_TLB]: PASID_DEVICE_TLB_INVALIDATE,
  [DescriptorType.PAGE_GROUP_RESPONSE]: PAGE_GROUP_RESPONSE,
} as const;
