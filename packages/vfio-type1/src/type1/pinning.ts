/**
 * vfio_pin_map_dma and vfio_unmap_unpin: pages pinned and mapped in physically contiguous runs (F14, F18). Nothing is pinned
 * for a container without domains.
 */
import {
  hex,
  type IommuDomain,
  IommuProt,
  iommuMap,
  iommuUnmap,
  iommuUnmapFast,
  type KernelLog,
  newGather,
  PAGE_SIZE,
  type PinnedPages,
  toBigint,
  unfailing,
} from "@iommukit/core";
import { charge, uncharge } from "./accounting.js";
import { NO_PAGES, type VfioDma } from "./dma.js";
import type { VfioDomain } from "./domain.js";

export interface PinOptions {
  readonly log: KernelLog;
  /** Module parameter disable_hugepages: every page is a run of its own. */
  readonly disableHugepages: boolean;
  /** Memory that was never touched is read from the shared zero page, which nobody pays for. */
  readonly zeroPageUncharged?: boolean;
}

/**
 * Pins `size` bytes at the mapping's vaddr and maps them in every domain. Nothing stays pinned, mapped or charged when it fails.
 * @throws IommuError EFAULT memory that cannot be pinned; ENOMEM RLIMIT_MEMLOCK; what a domain refuses with
 */
export async function pinAndMap(
  dma: VfioDma,
  size: bigint,
  domains: readonly VfioDomain[],
  options: PinOptions,
): Promise<void> {
  dma.size = size;
  if (domains.length === 0) return;
  try {
    await pinAll(dma, options.zeroPageUncharged);
    const mapped: VfioDomain[] = [];
    try {
      for (const domain of domains) {
        await mapRuns(dma, domain, options);
        mapped.push(domain);
      }
    } catch (error) {
      for (const domain of mapped.reverse()) await unmapAnyway(options.log, domain, dma.iova, dma.size);
      throw error;
    }
  } catch (error) {
    unpinAll(dma);
    throw error;
  }
}

/** VFIO_BATCH_MAX_CAPACITY: pages that are asked for at once. */
const BATCH = 512;

/** Pages are charged as they are pinned, so that the limit stops the loop and not only its end; those of drivers are already. */
async function pinAll(dma: VfioDma, keepZeroPage?: boolean): Promise<void> {
  const write = (dma.prot & IommuProt.WRITE) !== 0;
  const total = Number(dma.size / BigInt(PAGE_SIZE));
  const held: PinnedPages[] = [];
  try {
    for (let first = 0; first < total; ) {
      const at = dma.vaddr + BigInt(first * PAGE_SIZE);
      const pinned = await dma.owner.mm.pin(at, write, keepZeroPage, Math.min(BATCH, total - first));
      try {
        charge(dma.owner, costOf(dma, first, pinned));
      } catch (error) {
        pinned.unpin();
        throw error;
      }
      held.push(pinned);
      first += pinned.pages;
    }
  } finally {
    // A copy has no room to grow.
    dma.pages = held.slice();
  }
}

/**
 * Pages that are charged for the domains: not memory that is no RAM of the process (BARs, the zero page of old kernels), and
 * those that drivers hold as well are charged for them. @param first their number within the mapping
 */
function costOf({ external }: VfioDma, first: number, { pages, reserved }: PinnedPages): number {
  if (reserved) return 0;
  let cost = pages;
  for (const page of external.keys()) if (page >= first && page < first + pages) cost--;
  return cost;
}

/** Maps a pinned mapping into one domain: for a new mapping, and for a new domain (replay). All or nothing. */
export async function mapRuns(
  { iova, pages, prot }: VfioDma,
  domain: VfioDomain,
  { disableHugepages, log }: PinOptions,
): Promise<void> {
  let done = 0;
  try {
    for (let from = 0; from < pages.length; ) {
      const { pa } = pages[from];
      let bytes = 0;
      while (from < pages.length && pages[from].pa === pa + bytes) bytes += pages[from++].pages * PAGE_SIZE;
      const step = disableHugepages ? PAGE_SIZE : bytes;
      for (let at = 0; at < bytes; at += step, done += step) {
        const mapped = iommuMap(domain.domain, iova + toBigint(done), pa + at, toBigint(step), prot | domain.prot);
        if (mapped) await mapped;
      }
    }
  } catch (error) {
    if (done > 0) await unmapAnyway(log, domain, iova, toBigint(done));
    throw error;
  }
}

/** iommu_unmap as Linux has it: the tables are cleared, and a unit that does not hear of it goes to the log. */
export async function unmapAnyway(log: KernelLog, { domain }: VfioDomain, iova: bigint, size: bigint): Promise<void> {
  await unfailing(log, syncOf(domain), async () => void (await iommuUnmap(domain, iova, size)));
}

function syncOf({ id }: IommuDomain): string {
  return `domain ${id}: iotlb_sync`;
}

/**
 * Out of every domain, then out of every TLB and ATC, and only then unpinned: never the other way round (F18). What drivers
 * hold stays theirs, and charged.
 */
export async function unmapAndUnpin(log: KernelLog, dma: VfioDma, domains: readonly VfioDomain[]): Promise<void> {
  if (!dma.mapped) return;
  for (const { domain } of domains) {
    const gather = newGather();
    const unmapped = iommuUnmapFast(domain, dma.iova, dma.size, gather);
    const synced = domain.ops.iotlbSync(domain, gather);
    if (synced) await unfailing(log, syncOf(domain), () => synced);
    if (unmapped !== dma.size)
      throw new Error(
        `domain ${domain.id}: ${hex(unmapped)} of ${hex(dma.size)} bytes were mapped at ${hex(dma.iova)}`,
      );
  }
  unpinAll(dma);
}

function unpinAll(dma: VfioDma): void {
  uncharge(dma.owner, chargedPages(dma) - dma.external.size);
  for (const pinned of dma.pages) pinned.unpin();
  dma.pages = NO_PAGES;
}

/** What the mapping costs its owner: for a move to another one. */
export function chargedPages(dma: VfioDma): number {
  let charged = dma.external.size;
  let first = 0;
  for (const pinned of dma.pages) {
    charged += costOf(dma, first, pinned);
    first += pinned.pages;
  }
  return charged;
}
