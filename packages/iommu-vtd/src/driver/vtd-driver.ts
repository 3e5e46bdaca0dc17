/**
 * The VT-d driver (drivers/iommu/intel): brings a unit up and answers the kernel's iommu_ops. It sees registers and memory
 * only. Its parts: attachment (context and PASID entries), invalidation, page requests, faults, process binding.
 */
import {
  after,
  type Device,
  type DomainType,
  FlushQueue,
  hex,
  InterruptController,
  type IoMm,
  type IoMmContext,
  type IommuCap,
  type IommuDomain,
  IommuError,
  type IommuOps,
  type IopfResponse,
  type IotlbGather,
  iommuPgsize,
  Kernel,
  lo32,
  type MaySleep,
  type Mm,
  Mmio,
  NO_PASID,
  PageAllocator,
  PhysicalMemory,
  type ReservedRegion,
  Scheduler,
  Sva,
  type SvaOps,
  type SvaParam,
  Tracer,
  toBigint,
  toNumber,
  Variants,
} from "@iommukit/core";
import { inject, injectable } from "tsyringe";
import { Parts } from "./bring-up.js";
import { pasidBitsOf } from "./device-features.js";
import { DeviceInfo, infoOf } from "./device-info.js";
import { type DirtyRange, tracksDirty } from "./dirty-tracking.js";
import { VtdDomain } from "./domain.js";
import { VtdDriverOptions } from "./options.js";
import { PageTable } from "./page-table.js";
import { FIRST_STAGE_FORMAT, secondStageFormat } from "./paging-format.js";
import { probe } from "./probe.js";
import { reservedRegions } from "./reserved-regions.js";
import { ProcessBinding } from "./sva.js";
import type { Unit } from "./unit.js";

const ALL_OF_64_BITS = 2n ** 64n - 1n;

/** Also on units that are not ours: it takes any Mmio. */
@injectable()
export class VtdDriver implements IommuOps, SvaOps {
  readonly name = "intel-iommu";
  readonly #unit: Omit<Unit, "features">;
  #parts: Parts | undefined;
  #processes: ProcessBinding | undefined;

  constructor(
    @inject(VtdDriverOptions) private readonly options: VtdDriverOptions,
    @inject(Mmio) mmio: Mmio,
    @inject(PhysicalMemory) memory: PhysicalMemory,
    @inject(PageAllocator) pages: PageAllocator,
    @inject(InterruptController) interrupts: InterruptController,
    @inject(Scheduler) scheduler: Scheduler,
    @inject(Tracer) trace: Tracer,
    @inject(Kernel) kernel: Kernel,
    @inject(Sva) private readonly sva: Sva,
    @inject(Variants) variants: Variants,
  ) {
    const { name, index = 0 } = options;
    this.#unit = {
      name,
      dmar: `dmar${index}`,
      mmio,
      memory,
      pages,
      interrupts,
      scheduler,
      trace,
      kernel,
      variants,
      options,
    };
  }

  /** @throws IommuError ENODEV with the missing bit; ETIMEDOUT the unit does not follow a command; ENOMEM */
  async start(): Promise<void> {
    const unit: Unit = { ...this.#unit, features: probe(this.#unit.mmio, this.options) };
    const parts = new Parts(unit, this.sva);
    await parts.start();
    this.#parts = parts;
    this.#processes = new ProcessBinding(unit, this, parts.attachment, parts.invalidation, parts.pageRequests);
  }

  async stop(): Promise<void> {
    await this.#parts?.stop();
    this.#parts = undefined;
  }

  get #on(): Parts {
    if (!this.#parts) throw new IommuError("ENODEV", `${this.#unit.dmar} has not been started`);
    return this.#parts;
  }

  capable(_dev: Device, cap: IommuCap): boolean {
    const { ecap } = this.#on.unit.features;
    switch (cap) {
      case "cache-coherency":
      case "deferred-flush":
        return true;
      case "pre-boot-protection":
      case "noexec":
        return false;
      case "enforce-cache-coherency":
        return ecap.SC;
      case "dirty-tracking":
        return tracksDirty(this.#on.unit.features);
      case "isolated-msi":
        return ecap.IR;
    }
  }

  async probeDevice(dev: Device): Promise<void> {
    const { devices, attachment, unit, pageRequests, aliases } = this.#on;
    if (devices.has(dev.pci.rid))
      throw new IommuError("EBUSY", `${unit.dmar}: requester id ${hex(dev.pci.rid)} is in use`);
    const info = new DeviceInfo(dev);
    await aliases.replacedBy(dev.pci.rid);
    await attachment.add(info, pasidBitsOf(unit, info));
    dev.iommuPriv = info;
    devices.set(dev.pci.rid, info);
    this.sva.registerQueueFlush(dev, () => pageRequests.flush(dev.pci.rid));
  }

  async releaseDevice(dev: Device): Promise<void> {
    const { devices, attachment, pageRequests, aliases } = this.#on;
    const info = infoOf(dev);
    await this.svaDeviceShutdown(dev);
    await aliases.detached(info);
    await attachment.remove(info);
    await pageRequests.lock.with(() => devices.delete(dev.pci.rid));
    await aliases.released(dev.pci.rid);
    dev.iommuPriv = undefined;
  }

  reservedRegions(dev: Device): readonly ReservedRegion[] {
    return reservedRegions(dev.pci.rid, this.options.reservedMemory ?? []);
  }

  domainAlloc(type: DomainType, dev: Device): IommuDomain {
    const { features } = this.#on.unit;
    const lazy = type === "dma" && this.options.strict === false;
    const domain = new VtdDomain(this.#unit.kernel.nextDomainId(), lazy ? "dma-fq" : type, this, features.stage);
    if (type === "sva") throw new IommuError("EOPNOTSUPP", "a process is bound with mmAttach, not with a domain");
    if (type === "identity" && !features.ecap.PT)
      throw new IommuError("EOPNOTSUPP", `${this.#unit.dmar}: ECAP.PT = 0: no pass-through`);
    if (type === "identity" || type === "blocked") return domain;
    domain.table = this.#newTable(domain);
    domain.pgsizeBitmap = features.pgsizeBitmap;
    domain.aperture = { start: 0n, end: (1n << BigInt(features.iovaBits)) - 1n };
    if (domain.type === "dma-fq")
      domain.flushQueue = new FlushQueue(
        this.#unit.scheduler,
        () => this.flushIotlbAll(domain),
        this.options.flushQueue,
      );
    if (domain.type === "unmanaged") return domain;
    try {
      this.#mapReservedMemory(domain, dev);
    } catch (error) {
      this.domainFree(domain);
      throw error;
    }
    return domain;
  }

  #newTable(domain: VtdDomain): PageTable {
    const { features } = this.#on.unit;
    const { memory, pages, trace, name } = this.#unit;
    const format =
      features.stage === "first" ? FIRST_STAGE_FORMAT : secondStageFormat(this.options.writeImpliesRead === true);
    return new PageTable({
      format,
      levels: features.levels,
      owner: `${name} page tables of domain ${domain.id}`,
      memory,
      pages,
      trace,
    });
  }

  /** Before any device is on the domain, so nothing has to be invalidated. */
  #mapReservedMemory(domain: VtdDomain, dev: Device): void {
    for (const { start, length, type, prot } of this.reservedRegions(dev)) {
      if (type !== "direct" && type !== "direct-relaxable") continue;
      const end = Number(start + length);
      for (let at = Number(start); at < end; ) {
        const { pgsize, count } = iommuPgsize(domain, at, at, end - at);
        at += this.map(domain, BigInt(at), at, pgsize, count, prot);
      }
    }
  }

  domainFree(domain: IommuDomain): void {
    const { flushQueue, table } = domain as VtdDomain;
    flushQueue?.close();
    table?.free();
  }

  async attachDev(domain: IommuDomain, dev: Device): Promise<void> {
    const { attachment, aliases } = this.#on;
    const info = infoOf(dev);
    await attachment.attach(domain as VtdDomain, info);
    try {
      await aliases.attached(info);
    } catch (error) {
      await aliases.detached(info);
      await attachment.detach(info);
      throw error;
    }
  }

  async detachDev(domain: IommuDomain, dev: Device): Promise<void> {
    await this.sva.unbindDeviceAll(dev);
    const info = infoOf(dev);
    if (info.domain !== domain) return;
    await this.#on.aliases.detached(info);
    await this.#on.attachment.detach(info);
  }

  resetPrepare(dev: Device): Promise<void> {
    return this.#on.attachment.block(infoOf(dev));
  }

  resetDone(dev: Device): Promise<void> {
    return this.#on.attachment.unblock(infoOf(dev));
  }

  map(domain: IommuDomain, iova: bigint, pa: number, pgsize: number, count: number, prot: number): number {
    const target = domain as VtdDomain;
    if ((lo32(domain.pgsizeBitmap) & pgsize) === 0)
      throw new IommuError("EINVAL", `page size ${hex(pgsize)} is not in ${hex(domain.pgsizeBitmap)}`);
    // A last byte beyond 2^53 is rounded up, to the size that is meant.
    if (toNumber(iova) + pgsize * count > toNumber(domain.aperture.end) + 1)
      throw new IommuError("ERANGE", `${hex(iova)}+${hex(pgsize * count)} is beyond ${hex(domain.aperture.end)}`);
    const mapped = tableOf(target).map(iova, pa, pgsize, count, prot, target.snoop);
    target.hasMappings = true;
    const { trace, name } = this.#unit;
    if (trace.enabled) trace.emit("iommu:mapped", { unit: name, domain: domain.id, iova, pa, size: mapped });
    return mapped;
  }

  unmap(domain: IommuDomain, iova: bigint, pgsize: number, count: number, gather: IotlbGather): number {
    gather.freelist ??= [];
    const unmapped = tableOf(domain as VtdDomain).unmap(iova, pgsize, count, gather.freelist);
    if (unmapped === 0) return 0;
    const last = iova + toBigint(unmapped - 1);
    if (iova < gather.start) gather.start = iova;
    if (last > gather.end) gather.end = last;
    gather.pgsize = pgsize;
    const { trace, name } = this.#unit;
    if (trace.enabled) trace.emit("iommu:unmapped", { unit: name, domain: domain.id, iova, size: unmapped });
    return unmapped;
  }

  iotlbSyncMap(domain: IommuDomain, iova: bigint, size: bigint): MaySleep {
    const target = domain as VtdDomain;
    const table = tableOf(target);
    const { retired } = table;
    const flushed = this.#on.invalidation.flushMapped(target, iova, size, retired.length > 0);
    if (retired.length === 0) return flushed;
    table.retired = [];
    return after(flushed, () => {
      table.release(retired);
    });
  }

  /** Strict: invalidates the gathered range. Lazy (`gather.queued` on a "dma-fq" domain): leaves it to the flush queue. */
  iotlbSync(domain: IommuDomain, gather: IotlbGather): MaySleep {
    const { start, end, queued, freelist = [] } = gather;
    if (end < start) return undefined;
    const target = domain as VtdDomain;
    const table = tableOf(target);
    if (queued && target.flushQueue) return target.flushQueue.queue(() => table.release(freelist));
    return after(this.#on.invalidation.flushRange(target, start, end, freelist.length === 0), () => {
      this.#traceSynced(domain, start, end);
      table.release(freelist);
    });
  }

  flushIotlbAll(domain: IommuDomain): MaySleep {
    return after(this.#on.invalidation.flushAll(domain as VtdDomain), () =>
      this.#traceSynced(domain, 0n, ALL_OF_64_BITS),
    );
  }

  #traceSynced(domain: IommuDomain, start: bigint, end: bigint): undefined {
    const { trace, name } = this.#unit;
    if (trace.enabled) trace.emit("iommu:synced", { unit: name, domain: domain.id, start, end });
  }

  iovaToPhys(domain: IommuDomain, iova: bigint): number | undefined {
    const { table, type } = domain as VtdDomain;
    return type === "identity" ? Number(iova) : table?.iovaToPhys(iova);
  }

  enforceCacheCoherency(domain: IommuDomain): boolean {
    const target = domain as VtdDomain;
    if (!this.#on.unit.features.ecap.SC || !target.table) return false;
    // Second-stage leaves carry the bit: those that exist without it cannot be changed under the device.
    if (target.stage === "second" && target.hasMappings && !target.snoop) return false;
    target.snoop = true;
    return true;
  }

  /** @throws IommuError EOPNOTSUPP the unit keeps no dirty bits for the domain (ECAP.SSADS, second stage of scalable mode) */
  setDirtyTracking(domain: IommuDomain, enable: boolean): Promise<void> {
    return this.#on.dirtyTracking.set(domain as VtdDomain, enable);
  }

  /** Leaves of the range that devices have written since the last call. @throws IommuError EINVAL tracking is off */
  readAndClearDirty(domain: IommuDomain, iova: bigint, size: bigint): Promise<DirtyRange[]> {
    return this.#on.dirtyTracking.readAndClear(domain as VtdDomain, iova, size);
  }

  get #binding(): ProcessBinding {
    if (!this.#processes) throw new IommuError("ENODEV", `${this.#unit.dmar} has not been started`);
    return this.#processes;
  }

  svaDeviceInit(dev: Device, param: SvaParam): Promise<void> {
    return this.#binding.deviceInit(dev, param);
  }

  svaDeviceShutdown(dev: Device): Promise<void> {
    return this.#binding.deviceShutdown(dev);
  }

  mmAlloc(_domain: IommuDomain, mm: Mm): Promise<IoMmContext> {
    return this.#binding.mmAlloc(mm);
  }

  /** The page table belongs to the process. */
  mmFree(): void {}

  mmAttach(_domain: IommuDomain, dev: Device, ioMm: IoMm): Promise<void> {
    return this.#binding.attach(dev, ioMm);
  }

  mmDetach(_domain: IommuDomain, dev: Device, ioMm: IoMm): Promise<void> {
    return this.#binding.detach(dev, ioMm);
  }

  mmExit(_domain: IommuDomain, dev: Device, ioMm: IoMm): Promise<void> {
    return this.#binding.exit(dev, ioMm);
  }

  mmInvalidate(_domain: IommuDomain, dev: Device, ioMm: IoMm, start: bigint, size: bigint): Promise<void> {
    return this.#binding.invalidate(dev, ioMm, start, size);
  }

  async pageResponse(dev: Device, { pasid, grpid, code, responseNeedsPasid }: IopfResponse): Promise<void> {
    if (dev.iommuPriv === undefined) return;
    await this.#on.pageRequests.respond(dev.pci.rid, responseNeedsPasid ? pasid : NO_PASID, grpid, code);
  }
}

function tableOf(domain: VtdDomain): PageTable {
  if (!domain.table) throw new IommuError("EINVAL", `domain ${domain.id} (${domain.type}) has no page table`);
  return domain.table;
}
