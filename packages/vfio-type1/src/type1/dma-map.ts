/** VFIO_IOMMU_MAP_DMA (F11–F14, F19). The order of the checks is what programs see: overlap, then limit, then range. */
import { hex, IommuError, IommuProt, type Task, type UserPointer } from "@iommukit/core";
import { decodeStruct } from "../uapi/struct.js";
import { DmaMap, DmaMapFlags } from "../uapi/type1-structs.js";
import { charge, uncharge } from "./accounting.js";
import { allocBitmap } from "./dirty-bitmap.js";
import { type DmaOwner, VfioDma } from "./dma.js";
import { removeRun } from "./dma-unmap.js";
import { rangesAllow } from "./iova-ranges.js";
import { chargedPages, pinAndMap } from "./pinning.js";
import { checkWrap, invalid } from "./range-checks.js";
import type { VfioIommu } from "./vfio-iommu.js";

const KNOWN = DmaMapFlags.READ | DmaMapFlags.WRITE | DmaMapFlags.VADDR;

interface MapRequest {
  readonly flags: number;
  readonly vaddr: bigint;
  readonly iova: bigint;
  readonly size: bigint;
}

export async function mapDma(iommu: VfioIommu, task: Task, arg: UserPointer): Promise<number> {
  const map = decodeStruct(DmaMap, await arg.copyFrom(DmaMap.bytes));
  if (map.argsz < DmaMap.bytes) throw invalid(`argsz ${map.argsz} is less than ${DmaMap.bytes}`);
  if ((map.flags & ~KNOWN) !== 0) throw invalid(`flags 0x${map.flags.toString(16)} are not all known`);
  const prot = protOf(map.flags);
  if (iommu.profile.wrapErrno === "EOVERFLOW") {
    checkWrap("EOVERFLOW", "iova", map.iova, map.size);
    checkWrap("EOVERFLOW", "vaddr", map.vaddr, map.size);
  }
  const setVaddr = (map.flags & DmaMapFlags.VADDR) !== 0;
  if (setVaddr === (prot !== 0)) throw invalid("either READ or WRITE, or VADDR alone");
  await iommu.lock.with(async () => {
    // Nobody would take the mapping away any more.
    if (iommu.domains.length + iommu.emulatedGroups.size === 0) throw invalid("the container's last group has left");
    checkRange(iommu, map);
    const existing = iommu.dmas.find(map.iova, map.size);
    if (setVaddr) updateVaddr(iommu, task, map, existing);
    else await addMapping(iommu, task, map, prot, existing);
  });
  return 0;
}

function protOf(flags: number): number {
  const read = (flags & DmaMapFlags.READ) !== 0 ? IommuProt.READ : 0;
  const write = (flags & DmaMapFlags.WRITE) !== 0 ? IommuProt.WRITE : 0;
  return read | write;
}

function checkRange(iommu: VfioIommu, { iova, vaddr, size }: MapRequest): void {
  if (size === 0n || ((size | iova | vaddr) & (iommu.pgsize - 1n)) !== 0n)
    throw invalid(`iova ${hex(iova)}, vaddr ${hex(vaddr)}, size ${hex(size)}: not in pages of ${iommu.pgsize}`);
  checkWrap(iommu.profile.wrapErrno, "iova", iova, size);
  checkWrap(iommu.profile.wrapErrno, "vaddr", vaddr, size);
}

async function addMapping(
  iommu: VfioIommu,
  task: Task,
  { iova, vaddr, size }: MapRequest,
  prot: number,
  existing: VfioDma | undefined,
): Promise<void> {
  const last = iova + size - 1n;
  if (existing)
    throw new IommuError("EEXIST", `[${hex(iova)}, ${hex(last)}] overlaps the mapping at ${hex(existing.iova)}`);
  if (iommu.dmaAvail === 0)
    throw new IommuError("ENOSPC", `the container holds as many mappings as dma_entry_limit allows`);
  if (!rangesAllow(iommu.ranges, iova, last))
    throw invalid(`[${hex(iova)}, ${hex(last)}] is not inside one of the usable IOVA ranges`);
  const owner = ownerOf(iommu, task);
  const dma = new VfioDma(iova, vaddr, prot, owner);
  iommu.dmaAvail--;
  owner.mm.mmgrab();
  try {
    const { zeroPageUncharged } = iommu.profile;
    await pinAndMap(dma, size, iommu.domains, { ...iommu.env.params, zeroPageUncharged, log: iommu.env });
  } catch (error) {
    iommu.dmaAvail++;
    owner.mm.mmdrop();
    throw error;
  }
  iommu.dmas.insert(dma);
  if (!iommu.dirtyTracking) return;
  try {
    allocBitmap(dma, iommu.pgsize);
  } catch (error) {
    await removeRun(iommu, [dma]);
    throw error;
  }
}

/** Mappings of one caller share what is known of it. */
function ownerOf(iommu: VfioIommu, task: Task): DmaOwner {
  const { mm } = task;
  if (!mm) throw new IommuError("ESRCH", `task ${task.pid} has no address space`);
  const lockCap = task.credentials.capabilities.has("CAP_IPC_LOCK");
  const last = iommu.lastOwner;
  if (last?.task === task && last.mm === mm && last.lockCap === lockCap) return last;
  iommu.lastOwner = { task, mm, lockCap };
  return iommu.lastOwner;
}

/** The memory of an invalidated mapping is back at another address, perhaps in another process: vfio_change_dma_owner (F19, F20). */
function updateVaddr(iommu: VfioIommu, task: Task, map: MapRequest, dma: VfioDma | undefined): void {
  if (!dma) throw new IommuError("ENOENT", `nothing is mapped at ${hex(map.iova)}`);
  if (!dma.vaddrInvalid || dma.iova !== map.iova || dma.size !== map.size)
    throw invalid(`the mapping at ${hex(dma.iova)} has a valid vaddr, or another size than ${hex(map.size)}`);
  const owner = ownerOf(iommu, task);
  if (owner.mm !== dma.owner.mm) {
    const pages = chargedPages(dma);
    charge(owner, pages);
    uncharge(dma.owner, pages);
    owner.mm.mmgrab();
    dma.owner.mm.mmdrop();
    dma.owner = owner;
  }
  dma.vaddr = map.vaddr;
  dma.vaddrInvalid = false;
  iommu.vaddrInvalid--;
}
