/** What a DMA carries besides its address: who, with which PASID, translated or not, and what for. */

/** Access of a request, as bits: IOMMU_FAULT_PERM_* of include/linux/iommu.h, plus the PCIe address type. */
export const Access = {
  READ: 1,
  WRITE: 2,
  EXEC: 4,
  PRIV: 8,
  /** PCIe AT = 10b: the address is a translated one, from the device's ATC. */
  TRANSLATED: 16,
  /** A message-signalled interrupt: a 4-byte write that may be one on this platform. */
  MSI: 32,
  /** With READ: a read with no byte enabled, as devices use it to flush their writes. */
  ZERO_LENGTH: 64,
} as const;

/** pasid of a request without a PASID. */
export const NO_PASID = -1;

/** How a translation ended. */
export const TranslationStatus = {
  OK: 0,
  /** Terminated, and an event or fault was recorded (or suppressed as configured). The device sees an abort. */
  FAULT: 1,
  /** Held by the IOMMU until software answers (SMMUv3 stall). `out.stag` identifies it. */
  STALLED: 2,
  /** Unsupported request: the IOMMU does not do this kind for this device. */
  UNSUPPORTED: 3,
  /** Terminated silently, without a record. Reads give zeros, writes are ignored. */
  ABORTED: 4,
  /** Not a memory access: the request was an interrupt and has been delivered or blocked as one. */
  INTERRUPT: 5,
} as const;

/** Answer to a translation, reused by its owner. */
export class Translation {
  /** Physical address, as halves. */
  hi = 0;
  lo = 0;
  /** log2 of the naturally aligned range around the address that translates alike: 12 … 64. */
  shift = 12;
  /** Access that the translation allows: Access.READ | WRITE | EXEC. */
  perms = 0;
  /** Identifies a stalled transaction: TranslationStatus.STALLED. */
  stag = 0;
}

/** Completion status of an ATS translation request (PCIe 10.2.2). */
export const AtsStatus = {
  SUCCESS: 0,
  /** Unsupported Request: ATS is not enabled for this function; the function must stop asking. */
  UR: 1,
  /** Completer Abort: an error in the tables, recorded by the IOMMU. */
  CA: 4,
} as const;

/** Answer to an ATS translation request, reused by its owner. R = W = 0 with SUCCESS means: not present. */
export class AtsCompletion {
  hi = 0;
  lo = 0;
  /** log2 of the translated range: S and the low bits of the address on the wire. */
  shift = 12;
  read = false;
  write = false;
  execute = false;
  privileged = false;
  /** G: the translation is the same for all PASIDs of the function. */
  global = false;
  /** N: accesses are not snooped. */
  nonSnooped = false;
  /** U: the range may only be accessed with untranslated requests. */
  untranslatedOnly = false;
}

/** PCIe Page Request message, one page. `read = write = false, last = true` is a Stop Marker. */
export interface PageRequest {
  readonly rid: number;
  /** NO_PASID when the message has no PASID prefix. */
  readonly pasid: number;
  /** Page address; low 12 bits zero. */
  readonly hi: number;
  readonly lo: number;
  readonly read: boolean;
  readonly write: boolean;
  readonly execute: boolean;
  readonly privileged: boolean;
  readonly last: boolean;
  /** Page Request Group Index, 9 bits. */
  readonly prgi: number;
}

/** Response codes of a PRG Response message (PCIe 10.4.2.1). */
export const PrgResponseCode = { SUCCESS: 0, INVALID_REQUEST: 1, RESPONSE_FAILURE: 15 } as const;

/** PCIe PRG Response message: software's answer to a group of page requests. */
export interface PrgResponse {
  readonly rid: number;
  /** NO_PASID when the response carries no PASID prefix. */
  readonly pasid: number;
  readonly prgi: number;
  readonly code: number;
}

/** PCIe Invalidate Request message. */
export interface InvalidateRequest {
  readonly rid: number;
  readonly pasid: number;
  /** Start of the range, aligned to it. */
  readonly hi: number;
  readonly lo: number;
  /** log2 of the range: 12 … 64; 64 is everything. */
  readonly shift: number;
  /** G: entries of every PASID. */
  readonly global: boolean;
  /** 5 bits; the completion names it in its vector. */
  readonly itag: number;
}

/** PCIe Invalidate Completion message. */
export interface InvalidateCompletion {
  readonly rid: number;
  /** One bit per ITag that is done. */
  readonly itagVector: number;
  /** How many completions the device sends for each request in the vector; 0 means 8. */
  readonly count: number;
}
