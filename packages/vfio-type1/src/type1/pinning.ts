/**
 * vfio_pin_map_dma and vfio_unmap_unpin: pages pinned one by one, mapped in physically contiguous runs (F14, F18). Nothing
 * is pinned for a container without domains.
 */
import { hex, IommuProt, iommuMap, iommuUnmap, PAGE_SIZE } from "@iommukit/core";
import { charge, uncharge } from "./accounting.js";
import type { VfioDma } from "./dma.js";
import type { VfioDomain } from "./domain.js";

export interface PinOptions {
  /** Module parameter disable_hugepages: every page is a run of its own. */
  readonly disableHugepages: boolean;
  /** Memory that was never touched is read from the shared zero page, which nobody pays for. */
  readonly zeroPageUncharged?: boolean;
}

interface Run {
  readonly pa: number;
  readonly iova: bigint;
  readonly size: bigint;
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
      for (const domain of mapped.reverse()) await iommuUnmap(domain.domain, dma.iova, dma.size);
      throw error;
    }
  } catch (error) {
    unpinAll(dma);
    throw error;
  }
}

/** Pages are charged as they are pinned, so that the limit stops the loop and not only its end; those of drivers are already. */
async function pinAll(dma: VfioDma, keepZeroPage?: boolean): Promise<void> {
  const write = (dma.prot & IommuProt.WRITE) !== 0;
  for (let done = 0n; done < dma.size; done += BigInt(PAGE_SIZE)) {
    const pinned = await dma.owner.mm.pin(dma.vaddr + done, write, keepZeroPage);
    const charged = !pinned.reserved;
    if (charged && !dma.external.has(dma.pages.length)) {
      try {
        charge(dma.owner, 1);
      } catch (error) {
        pinned.unpin();
        throw error;
      }
    }
    dma.pages.push({ pinned, charged });
  }
}

/** Maps a pinned mapping into one domain: for a new mapping, and for a new domain (replay). All or nothing. */
export async function mapRuns(dma: VfioDma, domain: VfioDomain, options: PinOptions): Promise<void> {
  let done = 0n;
  try {
    for (const run of runs(dma, options)) {
      await iommuMap(domain.domain, run.iova, run.pa, run.size, dma.prot | domain.prot);
      done += run.size;
    }
  } catch (error) {
    if (done > 0n) await iommuUnmap(domain.domain, dma.iova, done);
    throw error;
  }
}

function* runs(dma: VfioDma, { disableHugepages }: PinOptions): Generator<Run> {
  const { pages } = dma;
  for (let from = 0; from < pages.length; ) {
    const { pa } = pages[from].pinned;
    let to = from + 1;
    while (!disableHugepages && to < pages.length && pages[to].pinned.pa === pa + (to - from) * PAGE_SIZE) to++;
    yield { pa, iova: dma.iova + BigInt(from * PAGE_SIZE), size: BigInt((to - from) * PAGE_SIZE) };
    from = to;
  }
}

/**
 * Out of every domain, then out of every TLB and ATC, and only then unpinned: never the other way round (F18). What drivers
 * hold stays theirs, and charged.
 */
export async function unmapAndUnpin(dma: VfioDma, domains: readonly VfioDomain[]): Promise<void> {
  if (!dma.mapped) return;
  for (const { domain } of domains) {
    const unmapped = await iommuUnmap(domain, dma.iova, dma.size);
    if (unmapped !== dma.size)
      throw new Error(
        `domain ${domain.id}: ${hex(unmapped)} of ${hex(dma.size)} bytes were mapped at ${hex(dma.iova)}`,
      );
  }
  unpinAll(dma);
}

function unpinAll(dma: VfioDma): void {
  uncharge(dma.owner, dma.pages.filter(({ charged }, page) => charged && !dma.external.has(page)).length);
  for (const { pinned } of dma.pages) pinned.unpin();
  dma.pages.length = 0;
}

/** What the mapping costs its owner: for a move to another one. */
export function chargedPages({ pages, external }: VfioDma): number {
  const others = [...external.keys()].filter((page) => !pages[page]?.charged);
  return pages.filter(({ charged }) => charged).length + others.length;
}
