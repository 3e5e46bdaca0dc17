/**
 * Known bugs of Linux's driver (KNOWN_VARIANTS), each a switch that is off unless asked for by name (`Variants` of the platform,
 * or `vtd({ variants })`). The code asks where the correct behaviour and the bug part.
 */
export const VTD_VARIANTS = {
  "L-5": "unbind holds the fault lock while it waits for faults that need it",
  "L-7": "a live PASID table entry is zeroed word by word while P is still set",
  "L-9": "the PASID table entry of an exited process is cleared without FPD: its DMA floods the fault log",
  "L-10": "PASID tear-down of a second-stage entry invalidates by PASID instead of by domain",
  "L-11": "the PASID cache keeps what it holds when a context entry changes",
  "L-12": "the device-TLB keeps what it holds when a context entry changes",
  "L-13": "unbind does not drain page requests",
  "L-14": "the drain waits for requests of any device with the same PASID",
  "L-15": "page request overflow is acknowledged before the queue is empty",
  "L-16": "the page request queue is one page, whatever the devices may send, and its head moves after the whole batch",
  "L-17": "requests that are not the last of their group are answered as well, and responses carry LPIG",
  "L-18": "the page request ring is wrapped at a mask that is not a multiple of 32 bytes",
  "L-19": "page-selective PASID invalidations keep an unaligned address",
  "L-20": "unmap invalidates the device-TLB of the first device of a domain only",
  "L-22": "invalidations of a process's pages leave paging-structure caches alone",
  "L-24": "a timed-out device-TLB invalidation is repeated for ever, also when the device is gone",
} as const;

/** "L-11", … */
export type VtdVariant = keyof typeof VTD_VARIANTS;
