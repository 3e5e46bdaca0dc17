/**
 * Linux's arm-smmu-v3 driver, as the kernel sees it: iommu_ops, and the bring-up of one SMMU. What it knows of the chip is its registers
 * and the memory that both can reach. Left out: Secure state, ECMDQ, nested translation for guests, performance monitors.
 */
import {
  after,
  type Device,
  type DomainType,
  type IoMm,
  type IoMmContext,
  type IommuCap,
  type IommuDomain,
  IommuError,
  type IommuOps,
  IommuProt,
  type IopfResponse,
  type IotlbGather,
  type MaySleep,
  type Mm,
  NO_PASID,
  type ReservedRegion,
  type SvaOps,
  type SvaParam,
} from "@iommukit/core";
import { inject, injectable } from "tsyringe";
import { priResp, resume } from "./commands.js";
import { addDevice, removeDevice } from "./devices.js";
import { Smmuv3Domain, type Stage } from "./domain.js";
import { DriverContext } from "./driver-context.js";
import type { Invalidation } from "./invalidation.js";
import { Master, masterOf } from "./master.js";
import type { Smmuv3Features } from "./probe.js";
import { Streams } from "./streams.js";
import { contextOf, SvaContext } from "./sva.js";
import { Unit } from "./unit.js";

/** MSI_IOVA_BASE and _LENGTH: where the kernel maps the doorbell for devices behind the SMMU (F24, G36). */
const SW_MSI: ReservedRegion = {
  start: 0x800_0000n,
  length: 0x10_0000n,
  type: "sw-msi",
  prot: IommuProt.WRITE | IommuProt.NOEXEC | IommuProt.MMIO,
};

const ALL_OF_64_BITS = 2n ** 64n - 1n;

/** Also on chips that are not ours: it takes any Mmio. */
@injectable()
export class Smmuv3Driver implements IommuOps, SvaOps {
  readonly name = "arm-smmu-v3";
  readonly #streams: Streams;
  #unit: Unit | undefined;

  constructor(@inject(DriverContext) private readonly context: DriverContext) {
    this.#streams = new Streams(context);
  }

  get #smmu(): Unit {
    if (!this.#unit) throw new IommuError("ENODEV", `${this.context.name} has not been started`);
    return this.#unit;
  }

  /** What the hardware has. After `start`. */
  get features(): Smmuv3Features {
    return this.#smmu.features;
  }

  /** @throws IommuError ENODEV what the hardware lacks, ENOMEM, ETIMEDOUT */
  async start(): Promise<void> {
    const unit = new Unit(this.context, this.#streams);
    try {
      await unit.start();
    } catch (error) {
      unit.free();
      throw error;
    }
    this.#unit = unit;
  }

  async stop(): Promise<void> {
    await this.#unit?.stop();
    this.#unit = undefined;
  }

  // Devices.

  capable(_dev: Device, cap: IommuCap): boolean {
    switch (cap) {
      case "cache-coherency":
        return this.#smmu.features.coherent;
      case "noexec":
      case "deferred-flush":
      // Messages go through the ITS, which checks the device's id.
      case "isolated-msi":
        return true;
      case "enforce-cache-coherency":
      case "pre-boot-protection":
      case "dirty-tracking":
        return false;
    }
  }

  async probeDevice(dev: Device): Promise<void> {
    await addDevice(dev, this.context, this.#smmu, this.#streams);
  }

  async releaseDevice(dev: Device): Promise<void> {
    await removeDevice(dev, this.context, this.#smmu, this.#streams);
  }

  reservedRegions(_dev: Device): readonly ReservedRegion[] {
    return [SW_MSI];
  }

  // Domains.

  domainAlloc(type: DomainType, _dev: Device): IommuDomain {
    const { features, invalidation } = this.#smmu;
    if (type === "sva") throw new IommuError("EOPNOTSUPP", "processes are bound with iommuSvaBindDevice");
    const paging: Stage = features.stage1 ? "s1" : "s2";
    const stage: Stage = type === "blocked" ? "abort" : type === "identity" ? "bypass" : paging;
    const lazy = type === "dma" && this.context.options.strict === false;
    return this.#newDomain(lazy ? "dma-fq" : type, stage, features, invalidation);
  }

  #newDomain(type: DomainType, stage: Stage, features: Smmuv3Features, invalidation: Invalidation): Smmuv3Domain {
    const domain = new Smmuv3Domain(type, this, stage, this.context, features, invalidation);
    try {
      if (stage === "s1") domain.tag = this.#smmu.asids.alloc(domain);
      if (stage === "s2") domain.tag = this.#smmu.vmids.alloc(domain);
    } catch (error) {
      domain.free();
      throw error;
    }
    return domain;
  }

  /** VFIO_TYPE1_NESTING_IOMMU: the domain's addresses are translated by stage 2. */
  enableNesting(domain: IommuDomain): void {
    const smmu = this.#domain(domain);
    if (smmu.masters.size > 0) throw new IommuError("EBUSY", `domain ${domain.id} is attached already`);
    if (!this.#smmu.features.stage2) throw new IommuError("EOPNOTSUPP", `${this.context.name}: IDR0.S2P is 0`);
    smmu.useStageTwo(this.#smmu.vmids.alloc(smmu), (asid) => this.#smmu.asids.free(asid));
  }

  domainFree(domain: IommuDomain): void {
    const smmu = this.#domain(domain);
    smmu.free();
    if (smmu.stage === "s1") this.#smmu.asids.free(smmu.tag);
    if (smmu.stage === "s2") this.#smmu.vmids.free(smmu.tag);
  }

  #domain(domain: IommuDomain): Smmuv3Domain {
    if (!(domain instanceof Smmuv3Domain) || domain.ops !== this) {
      throw new IommuError("EINVAL", `domain ${domain.id} belongs to another IOMMU`);
    }
    return domain;
  }

  async attachDev(domain: IommuDomain, dev: Device): Promise<void> {
    await this.#smmu.attachment.attach(masterOf(dev), this.#domain(domain));
  }

  async detachDev(domain: IommuDomain, dev: Device): Promise<void> {
    const master = masterOf(dev);
    if (master.domain !== domain) return;
    await this.context.sva.unbindDeviceAll(dev);
    await this.#smmu.attachment.detach(master);
  }

  async resetPrepare(dev: Device): Promise<void> {
    await this.#smmu.attachment.block(masterOf(dev));
  }

  async resetDone(dev: Device): Promise<void> {
    await this.#smmu.attachment.unblock(masterOf(dev));
  }

  map(domain: IommuDomain, iova: bigint, pa: number, pgsize: number, count: number, prot: number): number {
    const mapped = this.#domain(domain).map(iova, pa, pgsize, count, prot);
    const { trace, name } = this.context;
    if (trace.enabled) trace.emit("iommu:mapped", { unit: name, domain: domain.id, iova, pa, size: mapped });
    return mapped;
  }

  unmap(domain: IommuDomain, iova: bigint, pgsize: number, count: number, gather: IotlbGather): number {
    const size = this.#domain(domain).unmap(iova, pgsize, count, gather);
    const { trace, name } = this.context;
    if (trace.enabled) trace.emit("iommu:unmapped", { unit: name, domain: domain.id, iova, size });
    return size;
  }

  iotlbSyncMap(domain: IommuDomain, _iova: bigint, _size: bigint): MaySleep {
    return this.#domain(domain).sync();
  }

  iotlbSync(domain: IommuDomain, gather: IotlbGather): MaySleep {
    return this.#synced(domain, gather.start, gather.end, this.#domain(domain).sync(gather));
  }

  flushIotlbAll(domain: IommuDomain): MaySleep {
    return this.#synced(domain, 0n, ALL_OF_64_BITS, this.#domain(domain).flushAll());
  }

  #synced(domain: IommuDomain, start: bigint, end: bigint, done: MaySleep): MaySleep {
    const { trace, name } = this.context;
    if (!trace.enabled || start > end) return done;
    return after(done, () => {
      trace.emit("iommu:synced", { unit: name, domain: domain.id, start, end });
    });
  }

  iovaToPhys(domain: IommuDomain, iova: bigint): number | undefined {
    const smmu = this.#domain(domain);
    return smmu.stage === "bypass" ? Number(iova) : smmu.table?.iovaToPhys(iova);
  }

  /** No StreamID is known to have its own attributes overridden everywhere (CANWBS). */
  enforceCacheCoherency(_domain: IommuDomain): boolean {
    return false;
  }

  // Shared virtual addressing.

  async svaDeviceInit(dev: Device, param: SvaParam): Promise<void> {
    await this.#smmu.sva.deviceInit(dev, param);
  }

  async svaDeviceShutdown(dev: Device, _param: SvaParam): Promise<void> {
    this.#smmu.sva.deviceShutdown(dev);
  }

  async mmAlloc(_domain: IommuDomain, mm: Mm, _flags: number): Promise<IoMmContext> {
    return this.#smmu.sva.mmAlloc(mm);
  }

  mmFree(context: IoMmContext): void {
    if (context instanceof SvaContext) this.#smmu.sva.mmFree(context);
  }

  /** Each device has CDs of its own: every bond writes one. */
  async mmAttach(_domain: IommuDomain, dev: Device, ioMm: IoMm, _attachDomain: boolean): Promise<void> {
    await this.#smmu.sva.mmAttach(dev, ioMm, contextOf(ioMm, this));
  }

  async mmDetach(_domain: IommuDomain, dev: Device, ioMm: IoMm, _detachDomain: boolean): Promise<void> {
    await this.#smmu.sva.mmDetach(dev, ioMm, contextOf(ioMm, this));
  }

  async mmExit(_domain: IommuDomain, dev: Device, ioMm: IoMm): Promise<void> {
    await this.#smmu.sva.mmExit(dev, ioMm, contextOf(ioMm, this));
  }

  async mmInvalidate(_domain: IommuDomain, dev: Device, ioMm: IoMm, start: bigint, size: bigint): Promise<void> {
    await this.#smmu.sva.mmInvalidate(dev, contextOf(ioMm, this), start, size);
  }

  /** A stalled transaction goes on or ends; a page request group gets its PRG response. Neither is waited for (G27). */
  async pageResponse(dev: Device, response: IopfResponse): Promise<void> {
    const { commands } = this.#smmu;
    if (!(dev.iommuPriv instanceof Master)) return;
    const { sid, stall } = dev.iommuPriv;
    const { code, grpid, pasid, responseNeedsPasid } = response;
    if (stall) {
      await commands.issue(resume(sid, grpid, code === "success"));
      return;
    }
    const answer = code === "failure" ? "denied" : code;
    await commands.issue(priResp(sid, responseNeedsPasid ? pasid : NO_PASID, grpid, answer));
  }
}
