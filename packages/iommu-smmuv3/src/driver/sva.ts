/**
 * Processes on devices: the mm_* operations of the 2018 series (A15, S28, S33, S36, S39). Each bound address space is one entry of the
 * device's CD table, whose tables are the process's own, under the process's ASID.
 */
import {
  type Device,
  hex,
  IOMMU_SVA_FEAT_IOPF,
  type IoMm,
  IommuError,
  type IommuOps,
  isErrno,
  type Mm,
  type PageTable,
  pciDisablePri,
  pciEnablePri,
  pciPriSupported,
  pciResetPri,
  type SvaOps,
  type SvaParam,
} from "@iommukit/core";
import { type Identifiers, MmContexts } from "./asid.js";
import type { Attachment } from "./attachment.js";
import { type ProcessContext, processCd, quietCd } from "./cds.js";
import type { Smmuv3Domain } from "./domain.js";
import type { DriverContext, Smmuv3DriverOptions } from "./driver-context.js";
import { EVERYTHING, type Invalidation, type InvalidationRange } from "./invalidation.js";
import { InvalidationArray, InvalidationType } from "./invalidation-array.js";
import { type Master, masterOf } from "./master.js";
import { PHYSICAL_SIZES } from "./page-table-geometry.js";
import type { Smmuv3Features } from "./probe.js";

const PAGE_SIZE = 0x1000;
/** One device does not get more page requests at a time than this, and all together half of the queue (L-16). */
const MAX_PRI_CREDITS = 64;

/** What mmAlloc returns: an address space behind this SMMU. */
export class SvaContext {
  /** What an invalidation has to reach, for each device that is bound. */
  readonly bonds = new Map<Master, InvalidationArray>();

  constructor(
    readonly mm: Mm,
    readonly table: PageTable,
    readonly asid: number,
  ) {}
}

export class SmmuSva {
  readonly #mmContexts: MmContexts;
  #credits: number;

  constructor(
    private readonly context: DriverContext,
    private readonly features: Smmuv3Features,
    private readonly attachment: Attachment,
    private readonly invalidation: Invalidation,
    private readonly asids: Identifiers<Smmuv3Domain | SvaContext>,
    priqEntries: number,
  ) {
    this.#mmContexts = MmContexts.of(context.kernel, context.options.cpuAsidBits ?? 16);
    this.#credits = Math.floor(priqEntries / 2);
  }

  /** @throws IommuError ENODEV the SMMU cannot share tables with CPUs; EINVAL the device or its domain cannot; EBUSY; ENOSPC */
  async deviceInit(device: Device, param: SvaParam): Promise<void> {
    const master = masterOf(device);
    const lacks = svaObstacle(this.features, this.context.options);
    if (lacks) throw new IommuError("ENODEV", `${this.context.name} cannot share page tables with processes: ${lacks}`);
    if (master.domain?.stage !== "s1") throw new IommuError("EINVAL", `${device.name} is in no domain of stage 1`);
    if (master.ssidBits === 0) throw new IommuError("EINVAL", `${device.name} and its SMMU share no bit of PASID`);
    const largest = 2 ** master.ssidBits - 1;
    // Entry 0 of the CD table serves transactions without a PASID (D2).
    param.minPasid = Math.max(param.minPasid, 1);
    param.maxPasid = param.maxPasid === 0 ? largest : Math.min(param.maxPasid, largest);
    if ((param.features & IOMMU_SVA_FEAT_IOPF) !== 0 && !master.stall) this.#enablePri(master);
  }

  /** PASID and ATS are enabled already, in this order, and STE.PPAR is as the function needs it (I4, S-12). */
  #enablePri(master: Master): void {
    const { pci, name } = master.device;
    if (!this.features.pri)
      throw new IommuError("EINVAL", `${this.context.name} takes no page requests: IDR0.PRI is 0`);
    if (!master.ats || !pciPriSupported(pci))
      throw new IommuError("EINVAL", `${name} has no PRI${master.ats ? "" : " without ATS"}`);
    const wanted = Math.min(this.#credits, MAX_PRI_CREDITS);
    if (wanted === 0) throw new IommuError("ENOSPC", `${name}: the page request queue is given out to other devices`);
    pciResetPri(pci);
    master.priCredits = pciEnablePri(pci, wanted);
    this.#credits -= master.priCredits;
  }

  /** The function stops asking. What it has asked is still answered. */
  deviceShutdown(device: Device): void {
    const master = masterOf(device);
    if (master.priCredits === 0) return;
    pciDisablePri(device.pci);
    this.#credits += master.priCredits;
    master.priCredits = 0;
  }

  /** @throws IommuError EOPNOTSUPP the process's tables do not fit the SMMU; ENOSPC no ASID */
  async mmAlloc(mm: Mm): Promise<SvaContext> {
    const table = mm.pageTable("vmsav8-64");
    if (table.vaBits > 48) throw new IommuError("EOPNOTSUPP", `${mm.owner}: ${table.vaBits} bits of virtual address`);
    const top = Math.max(...this.context.memory.regions.map(({ base, size }) => base + size));
    if (top > 2 ** this.features.oas) {
      throw new IommuError(
        "EOPNOTSUPP",
        `${this.context.name} reaches ${this.features.oas} bits, memory ends at ${hex(top)}`,
      );
    }
    const context = new SvaContext(mm, table, this.#mmContexts.get(mm));
    try {
      await this.#shareAsid(context);
    } catch (error) {
      this.mmFree(context);
      throw error;
    }
    return context;
  }

  /** The process's ASID is the CPU's choice. A DMA domain that has it moves to another one, and its old entries go (seizing). */
  async #shareAsid(context: SvaContext): Promise<void> {
    await this.attachment.lock.with(async () => {
      const owner = this.asids.owner(context.asid);
      const moved = owner === undefined || owner instanceof SvaContext ? undefined : this.asids.alloc(owner);
      this.asids.take(context.asid, context);
      if (moved === undefined || owner === undefined || owner instanceof SvaContext) return;
      const before = owner.tagItem;
      owner.tag = moved;
      for (const master of owner.masters) {
        owner.invalidations.merge([owner.tagItem]);
        if (master.domain === owner) await this.attachment.writeCd(master, owner);
      }
      owner.invalidations.unref([...owner.masters].map(() => before));
      owner.invalidations.purge();
      await this.invalidation.tag(before);
    });
  }

  /** Its entries have left the IOTLB with the last mmDetach. */
  mmFree(context: SvaContext): void {
    if (this.asids.owner(context.asid) === context) this.asids.free(context.asid);
    this.#mmContexts.put(context.mm);
  }

  /** @throws IommuError ERANGE, ENOMEM */
  async mmAttach(device: Device, ioMm: IoMm, context: SvaContext): Promise<void> {
    const master = masterOf(device);
    const { cdTable, domain } = master;
    if (!cdTable || domain?.stage !== "s1") throw new IommuError("EINVAL", `${device.name} is in no domain of stage 1`);
    await cdTable.prepare(ioMm.pasid);
    const array = new InvalidationArray();
    const tag = { type: InvalidationType.S1_ASID, id: context.asid, ssid: 0 };
    array.merge(master.ats ? [tag, { type: InvalidationType.ATS, id: master.sid, ssid: ioMm.pasid }] : [tag]);
    context.bonds.set(master, array);
    try {
      await cdTable.write(ioMm.pasid, processCd(this.#process(master, context), context.table));
    } catch (error) {
      // The command queue is stuck, but the entry may be in memory already.
      await this.#takeBack(device, ioMm, context);
      throw error;
    }
  }

  async #takeBack(device: Device, ioMm: IoMm, context: SvaContext): Promise<void> {
    try {
      await this.mmDetach(device, ioMm, context);
    } catch (error) {
      if (!isErrno(error)) throw error;
      this.context.print(`${device.name}: the CD of PASID ${ioMm.pasid} is gone, and may still be cached`);
    }
  }

  #process(master: Master, { asid }: SvaContext): ProcessContext {
    const { oas, httu, stallForce } = this.features;
    const stall = master.domain ? this.attachment.stalls(master, master.domain) : master.stall;
    return { asid, ips: PHYSICAL_SIZES.indexOf(Math.min(oas, 48)), httu, stall, stallForce };
  }

  /**
   * The CD is invalid from here on, also after an exit whose device nobody has told to stop: one that is only silent would answer
   * its translation requests with no rights, and it would ask for pages with a PASID that is free (I-3).
   */
  async mmDetach(device: Device, ioMm: IoMm, context: SvaContext): Promise<void> {
    const master = masterOf(device);
    const array = context.bonds.get(master);
    if (!array) return;
    await master.cdTable?.clear(ioMm.pasid);
    await this.invalidation.ranges(array, [EVERYTHING]);
    context.bonds.delete(master);
  }

  async mmExit(device: Device, ioMm: IoMm, context: SvaContext): Promise<void> {
    const master = masterOf(device);
    const array = context.bonds.get(master);
    if (!array || !master.cdTable) return;
    // L-9: the entry becomes invalid while transactions are on their way.
    if (this.context.variants.has("L-9")) await master.cdTable.clear(ioMm.pasid);
    else await master.cdTable.write(ioMm.pasid, quietCd(this.#process(master, context), context.table));
    await this.invalidation.ranges(array, [EVERYTHING]);
  }

  async mmInvalidate(device: Device, context: SvaContext, start: bigint, size: bigint): Promise<void> {
    const array = context.bonds.get(masterOf(device));
    if (!array) return;
    const mask = BigInt(PAGE_SIZE - 1);
    const first = start & ~mask;
    const bytes = (start + size - first + mask) & ~mask;
    const everything = bytes >= 1n << BigInt(context.table.vaBits);
    const range: InvalidationRange = { start: first, size: bytes, granule: PAGE_SIZE, leaf: false };
    await this.invalidation.ranges(array, [everything ? EVERYTHING : range]);
  }
}

/** @throws IommuError EINVAL when the address space is not behind this SMMU */
export function contextOf(ioMm: IoMm, ops: IommuOps & SvaOps): SvaContext {
  const context = ioMm.contexts.get(ops);
  if (!(context instanceof SvaContext))
    throw new IommuError("EINVAL", `PASID ${ioMm.pasid} has no context of ${ops.name}`);
  return context;
}

/** arm_smmu_sva_supported: why the SMMU cannot walk the CPUs' tables; undefined when it can. */
export function svaObstacle(features: Smmuv3Features, { cpuAsidBits = 16 }: Smmuv3DriverOptions): string | undefined {
  const { coherent, pgsizeBitmap, asidBits, stage1 } = features;
  if (!stage1) return "IDR0.S1P is 0";
  if (!coherent) return "IDR0.COHACC is 0: its walks do not snoop the CPU's caches";
  if ((pgsizeBitmap & BigInt(PAGE_SIZE)) === 0n) return "IDR5.GRAN4K is 0: it has no 4 KiB pages";
  if (asidBits < cpuAsidBits) return `IDR0.ASID16 is 0: the CPUs' ASIDs have ${cpuAsidBits} bits`;
  return undefined;
}
