/** How a DMA ended. */
export const DmaStatus = {
  OK: 0,
  /** ATS: the translation is not there or does not permit the access. A page request may help. */
  NOT_PRESENT: 1,
  /** The IOMMU holds the transaction until software answers. */
  STALLED: 2,
  /** The IOMMU refused and recorded why, or answered a translation request with Completer Abort. */
  FAULT: 3,
  /** Unsupported Request. */
  UNSUPPORTED: 4,
  /** Ended silently: reads give zeros, writes are ignored. */
  ABORTED: 5,
  /** Nothing answers at the physical address. */
  BUS_ERROR: 6,
  /** The function may not send it: no Bus Master Enable, PASID not enabled or too wide, not present. */
  REFUSED: 7,
  /** A page request was answered with Invalid Request, with Response Failure, or not in time. */
  INVALID_PAGE: 8,
  RESPONSE_FAILURE: 9,
  TIMEOUT: 10,
  /** A reset, an abort, or the PASID was stopped. */
  CANCELLED: 11,
} as const;

const NAMES: readonly string[] = Object.keys(DmaStatus);

/** "OK", "NOT_PRESENT", … for messages. */
export function dmaStatusName(status: number): string {
  return NAMES[status] ?? `status ${status}`;
}
