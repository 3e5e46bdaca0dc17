/**
 * vfio_pin_pages, vfio_unpin_pages and vfio_dma_rw (F17, F26): how drivers of emulated devices reach a program's memory, page
 * by page and by IOVA. Pages that such a driver holds keep their mapping: it is asked to unpin them first.
 */
import { hex, IommuError, IommuProt, PAGE_SIZE } from "@iommukit/core";
import { charge, uncharge } from "./accounting.js";
import { markDirty } from "./dirty-bitmap.js";
import type { ExternalPage, VfioDma } from "./dma.js";
import { checkWrap, invalid } from "./range-checks.js";
import type { VfioIommu } from "./vfio-iommu.js";

/** VFIO_PIN_PAGES_MAX_ENTRIES: as many as pointers fit into a page. */
const MAX_PAGES = 512;

/**
 * Pins pages, all or none. @returns their physical addresses, one each
 * @param prot IommuProt READ | WRITE, what the driver will do
 * @throws IommuError EINVAL count, unaligned, nothing mapped, memory that is no RAM, nobody listens to dma_unmap; E2BIG; EACCES v1;
 *   EBUSY a vaddr is invalid; EPERM prot; ENODEV the process has gone; EFAULT; ENOMEM RLIMIT_MEMLOCK
 */
export async function pinPages(iommu: VfioIommu, iova: bigint, count: number, prot: number): Promise<number[]> {
  checkPages(iommu, iova, count, "pinning");
  return iommu.lock.with(async () => {
    checkVaddrs(iommu);
    if (iommu.pinners.size === 0) throw invalid("no open device would hear of an unmap");
    const addresses: number[] = [];
    try {
      for (let i = 0; i < count; i++) addresses.push(await pinPage(iommu, nthPage(iova, i), prot));
    } catch (error) {
      for (let i = 0; i < addresses.length; i++) unpinPage(iommu, nthPage(iova, i));
      throw error;
    }
    return addresses;
  });
}

function nthPage(iova: bigint, n: number): bigint {
  return iova + BigInt(n * PAGE_SIZE);
}

/** In the order of vfio_pin_pages, vfio_device_container_pin_pages and vfio_iommu_type1_pin_pages. */
function checkPages({ profile, v2 }: VfioIommu, iova: bigint, count: number, what: string): void {
  if (!Number.isInteger(count) || count <= 0) throw invalid(`${count} pages`);
  if (count > MAX_PAGES) throw new IommuError("E2BIG", `${count} pages at once; at most ${MAX_PAGES}`);
  if (!v2) throw new IommuError("EACCES", `${what} pages needs VFIO_TYPE1v2_IOMMU`);
  if (iova % BigInt(PAGE_SIZE) !== 0n) throw invalid(`iova ${hex(iova)} is not a multiple of ${PAGE_SIZE}`);
  checkWrap(profile.wrapErrno, "iova", iova, BigInt(count * PAGE_SIZE));
}

function checkVaddrs({ vaddrInvalid }: VfioIommu): void {
  if (vaddrInvalid > 0) throw new IommuError("EBUSY", `${vaddrInvalid} mappings wait for a new vaddr`);
}

async function pinPage(iommu: VfioIommu, iova: bigint, prot: number): Promise<number> {
  const dma = iommu.dmas.find(iova, BigInt(PAGE_SIZE));
  if (!dma) throw invalid(`nothing is mapped at ${hex(iova)}`);
  if ((dma.prot & prot) !== prot)
    throw new IommuError("EPERM", `the mapping at ${hex(dma.iova)} has prot ${dma.prot}, not ${prot}`);
  const offset = Number(iova - dma.iova);
  const page = offset / PAGE_SIZE;
  const held = dma.external.get(page) ?? (await pinFirst(dma, page));
  held.users++;
  markDirty(dma, offset, 1, iommu.pgsize);
  return held.pinned.pa;
}

/** A page that a domain holds has been charged. */
async function pinFirst(dma: VfioDma, page: number): Promise<ExternalPage> {
  const { owner, vaddr, prot } = dma;
  if (owner.mm.mmUsers === 0) throw new IommuError("ENODEV", `${owner.mm.owner} has exited`);
  const pinned = await owner.mm.pin(vaddr + BigInt(page * PAGE_SIZE), (prot & IommuProt.WRITE) !== 0);
  try {
    if (pinned.reserved) throw invalid(`${hex(vaddr + BigInt(page * PAGE_SIZE))} of ${owner.mm.owner} is no RAM`);
    if (!dma.mapped) charge(owner, 1);
  } catch (error) {
    pinned.unpin();
    throw error;
  }
  const held = { pinned, users: 0 };
  dma.addExternal(page, held);
  return held;
}

/** Gives back one pin of each page that is pinned. @throws IommuError EINVAL, E2BIG, EACCES */
export async function unpinPages(iommu: VfioIommu, iova: bigint, count: number): Promise<void> {
  checkPages(iommu, iova, count, "unpinning");
  await iommu.lock.with(() => {
    for (let i = 0; i < count; i++) {
      if (unpinPage(iommu, nthPage(iova, i))) continue;
      iommu.env.printk(`WARNING: vfio_iommu_type1_unpin_pages: nothing is mapped at ${hex(nthPage(iova, i))}`);
      return;
    }
  });
}

/** @returns whether anything is mapped there */
function unpinPage(iommu: VfioIommu, iova: bigint): boolean {
  const dma = iommu.dmas.find(iova, BigInt(PAGE_SIZE));
  if (!dma) return false;
  const page = Number(iova - dma.iova) / PAGE_SIZE;
  const held = dma.external.get(page);
  if (held && --held.users === 0) release(dma, page, held);
  return true;
}

function release(dma: VfioDma, page: number, { pinned }: ExternalPage): void {
  dma.removeExternal(page);
  pinned.unpin();
  if (!dma.mapped) uncharge(dma.owner, 1);
}

/** The mapping goes, though a driver has closed its device without unpinning. */
export function dropExternal(iommu: VfioIommu, dma: VfioDma): void {
  if (dma.external.size === 0) return;
  iommu.env.printk(
    `WARNING: vfio_remove_dma: ${dma.external.size} pages of the mapping at ${hex(dma.iova)} are still pinned`,
  );
  for (const [page, held] of dma.external) release(dma, page, held);
}

/**
 * vfio_dma_rw: copies between a driver's buffer and the program's memory at an IOVA, over any number of mappings.
 * @throws IommuError EINVAL nothing mapped; EPERM prot, or the process has gone; EBUSY; EFAULT. What came before it is copied.
 */
export async function dmaRw(iommu: VfioIommu, iova: bigint, bytes: Uint8Array, write: boolean): Promise<void> {
  await iommu.lock.with(async () => {
    checkVaddrs(iommu);
    for (let done = 0; done < bytes.length; )
      done += await copyChunk(iommu, iova + BigInt(done), bytes.subarray(done), write);
  });
}

/** Up to the end of one mapping. @returns bytes copied */
async function copyChunk(iommu: VfioIommu, iova: bigint, bytes: Uint8Array, write: boolean): Promise<number> {
  const dma = iommu.dmas.find(iova, 1n);
  if (!dma) throw invalid(`nothing is mapped at ${hex(iova)}`);
  const { owner, vaddr, prot } = dma;
  if ((prot & IommuProt.READ) === 0 || (write && (prot & IommuProt.WRITE) === 0))
    throw new IommuError("EPERM", `the mapping at ${hex(dma.iova)} has prot ${prot}`);
  if (owner.mm.mmUsers === 0) throw new IommuError("EPERM", `${owner.mm.owner} has exited`);
  const offset = iova - dma.iova;
  const part = bytes.subarray(0, Number(dma.size - offset));
  const copied = await (write ? owner.mm.write(vaddr + offset, part) : owner.mm.read(vaddr + offset, part));
  if (copied < part.length)
    throw new IommuError("EFAULT", `${hex(vaddr + offset + BigInt(copied))} of ${owner.mm.owner} cannot be accessed`);
  if (write) markDirty(dma, Number(offset), copied, iommu.pgsize);
  return copied;
}

/**
 * vfio_notify_dma_unmap: every open device hears that the mapping is about to go. iommu->lock is held by the caller, and
 * dropped meanwhile: drivers unpin.
 */
export async function notifyDmaUnmap(iommu: VfioIommu, { iova, size }: VfioDma): Promise<void> {
  iommu.lock.unlock();
  try {
    await iommu.pinnersLock.with(async () => {
      for (const pinner of [...iommu.pinners]) await pinner.dmaUnmap(iova, size);
    });
  } finally {
    await iommu.lock.lock();
  }
}
