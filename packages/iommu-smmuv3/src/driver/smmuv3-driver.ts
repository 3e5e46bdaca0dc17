/**
 * Linux's arm-smmu-v3 driver, as the kernel sees it: iommu_ops, and the bring-up of one SMMU. What it knows of the chip is its registers
 * and the memory that both can reach. Left out: Secure state, ECMDQ, nested translation for guests, performance monitors.
 */
import {
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
  isErrno,
  type Mm,
  NO_PASID,
  pciAtsSupported,
  pciDisableAts,
  pciDisablePasid,
  pciEnablePasid,
  pciMaxPasids,
  pciPasidFeatures,
  pciPrepareAts,
  pciPrgRespPasidRequired,
  type ReservedRegion,
  type SvaParam,
} from "@iommukit/core";
import { inject, injectable } from "tsyringe";
import { F_TRANSLATION } from "../spec/events.js";
import { PRIQ_ENTRY } from "../spec/page-requests.js";
import { EVENTQ_BASE, EVENTQ_CONS, EVENTQ_PROD, PRIQ_BASE, PRIQ_CONS, PRIQ_PROD } from "../spec/registers.js";
import { Identifiers } from "./asid.js";
import { Attachment } from "./attachment.js";
import { LINEAR_CD_BITS } from "./cd-table.js";
import { CommandQueue } from "./command-queue.js";
import { priResp, resume } from "./commands.js";
import { DeviceReset } from "./device-reset.js";
import { Smmuv3Domain, type Stage } from "./domain.js";
import { DriverContext } from "./driver-context.js";
import { EventHandler } from "./event-handler.js";
import { Interrupts } from "./interrupts.js";
import { Invalidation } from "./invalidation.js";
import { Master, masterOf } from "./master.js";
import { PageRequestHandler } from "./page-request-handler.js";
import { probe, type Smmuv3Features } from "./probe.js";
import { RecordQueue } from "./record-queue.js";
import { StreamTable } from "./stream-table.js";
import { Streams } from "./streams.js";
import { contextOf, SmmuSva, SvaContext } from "./sva.js";

/** MSI_IOVA_BASE and _LENGTH: where the kernel maps the doorbell for devices behind the SMMU (F24, G36). */
const SW_MSI: ReservedRegion = {
  start: 0x800_0000n,
  length: 0x10_0000n,
  type: "sw-msi",
  prot: IommuProt.WRITE | IommuProt.NOEXEC | IommuProt.MMIO,
};

/** Everything that exists while the driver is bound to its SMMU. */
interface Bound {
  readonly features: Smmuv3Features;
  readonly commands: CommandQueue;
  readonly streamTable: StreamTable;
  readonly eventq: RecordQueue;
  readonly priq: RecordQueue | undefined;
  readonly reset: DeviceReset;
  readonly interrupts: Interrupts;
  readonly invalidation: Invalidation;
  readonly attachment: Attachment;
  readonly sva: SmmuSva;
}

@injectable()
export class Smmuv3Driver implements IommuOps {
  readonly name = "arm-smmu-v3";
  readonly #streams: Streams;
  #bound: Bound | undefined;
  #asids = new Identifiers<Smmuv3Domain | SvaContext>("ASID", 16);
  #vmids = new Identifiers<Smmuv3Domain>("VMID", 16);

  constructor(@inject(DriverContext) private readonly context: DriverContext) {
    this.#streams = new Streams(context);
  }

  get #smmu(): Bound {
    if (!this.#bound) throw new IommuError("ENODEV", `${this.context.name} has not been started`);
    return this.#bound;
  }

  /** What the hardware has. After `start`. */
  get features(): Smmuv3Features {
    return this.#smmu.features;
  }

  // Bring-up (G9).

  /** arm_smmu_device_probe. @throws IommuError ENODEV what the hardware lacks, ENOMEM, ETIMEDOUT */
  async start(): Promise<void> {
    const features = probe(this.context.mmio, this.context.options);
    this.context.print(
      `oas ${features.oas}-bit (ias ${features.wideVirtual ? 52 : 48}-bit, ${features.sidBits}-bit StreamIDs)`,
    );
    this.#asids = new Identifiers("ASID", features.asidBits);
    this.#vmids = new Identifiers("VMID", features.vmidBits);
    const bound = this.#build(features);
    this.#bound = bound;
    const { reset, commands, eventq, priq, streamTable, interrupts } = bound;
    await reset.disable();
    streamTable.install();
    commands.reset();
    await reset.enable("CMDQEN", "command queue");
    await reset.invalidateAll(commands);
    eventq.reset();
    await reset.enable("EVENTQEN", "event queue");
    priq?.reset();
    if (priq) await reset.enable("PRIQEN", "PRI queue");
    if (features.ats) await reset.enable("ATSCHK", "ATS check");
    await reset.enableInterrupts(false);
    interrupts.setUp();
    await reset.enableInterrupts(true);
    await reset.enable("SMMUEN", "SMMU interface");
  }

  #build(features: Smmuv3Features): Bound {
    const { context } = this;
    const commands = new CommandQueue(context, features);
    const invalidation = new Invalidation(
      context,
      commands,
      features,
      (sid) => this.#streams.find(sid)?.reachable ?? false,
    );
    const streamTable = new StreamTable(context, features);
    const eventq = new RecordQueue(
      context,
      "evtq",
      features.evtqShift,
      F_TRANSLATION,
      { base: EVENTQ_BASE, prod: EVENTQ_PROD, cons: EVENTQ_CONS },
      new EventHandler(context, commands, this.#streams),
    );
    const priq = features.pri
      ? new RecordQueue(
          context,
          "priq",
          features.priqShift,
          PRIQ_ENTRY,
          { base: PRIQ_BASE, prod: PRIQ_PROD, cons: PRIQ_CONS },
          new PageRequestHandler(context, commands, this.#streams),
        )
      : undefined;
    const attachment = new Attachment(context, features, commands, invalidation, streamTable);
    return {
      features,
      commands,
      streamTable,
      eventq,
      priq,
      reset: new DeviceReset(context, features),
      interrupts: new Interrupts(context, features, commands, {
        eventq: eventq.interrupt,
        priq: priq ? priq.interrupt : () => {},
      }),
      invalidation,
      attachment,
      sva: new SmmuSva(context, features, attachment, invalidation, this.#asids, priq?.entries ?? 0),
    };
  }

  /** arm_smmu_device_remove. All devices have been released. */
  async stop(): Promise<void> {
    const { reset, interrupts, eventq, priq, commands, streamTable } = this.#smmu;
    await reset.enableInterrupts(false);
    interrupts.tearDown();
    await eventq.stop();
    await priq?.stop();
    await reset.disable();
    for (const part of [eventq, priq, commands, streamTable]) part?.free();
    this.#bound = undefined;
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
    const { features, streamTable } = this.#smmu;
    const { pci } = dev;
    streamTable.ste(dev.rid);
    const canStall = features.stalls && (this.context.options.canStall?.(dev.name) ?? false);
    const master = new Master(dev, canStall || features.stallForce, pciPrgRespPasidRequired(pci));
    await this.#streams.add(master);
    dev.iommuPriv = master;
    master.ssidBits = this.#enablePasid(dev);
    if (pciAtsSupported(pci))
      pciPrepareAts(pci, (features.pgsizeBitmap & -features.pgsizeBitmap).toString(2).length - 1);
    this.context.sva.registerQueueFlush(dev, () => this.#flushQueues());
  }

  /** Before ATS is enabled: it must not change afterwards (I4). A function without PASID still does DMA. */
  #enablePasid({ pci }: Device): number {
    const { ssidBits, twoLevelCdTable } = this.#smmu.features;
    if (ssidBits === 0) return 0;
    try {
      pciEnablePasid(pci, pciPasidFeatures(pci));
      const bits = Math.min(ssidBits, Math.log2(pciMaxPasids(pci)));
      return twoLevelCdTable ? bits : Math.min(bits, LINEAR_CD_BITS);
    } catch (error) {
      if (!isErrno(error)) throw error;
      return 0;
    }
  }

  async releaseDevice(dev: Device): Promise<void> {
    const { attachment, sva } = this.#smmu;
    const master = masterOf(dev);
    await this.context.sva.unbindDeviceAll(dev);
    sva.deviceShutdown(dev);
    await attachment.detach(master);
    if (master.ats) pciDisableAts(dev.pci);
    pciDisablePasid(dev.pci);
    await this.#flushQueues();
    await this.#streams.remove(master);
    master.cdTable?.free();
    dev.iommuPriv = undefined;
  }

  /** Everything that devices have asked so far has been handed to the fault queues. */
  async #flushQueues(): Promise<void> {
    const { eventq, priq } = this.#smmu;
    await eventq.flush();
    await priq?.flush();
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
    return this.#newDomain(type, stage, features, invalidation);
  }

  #newDomain(type: DomainType, stage: Stage, features: Smmuv3Features, invalidation: Invalidation): Smmuv3Domain {
    const domain = new Smmuv3Domain(type, this, stage, this.context, features, invalidation);
    try {
      if (stage === "s1") domain.tag = this.#asids.alloc(domain);
      if (stage === "s2") domain.tag = this.#vmids.alloc(domain);
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
    smmu.useStageTwo(this.#vmids.alloc(smmu), (asid) => this.#asids.free(asid));
  }

  domainFree(domain: IommuDomain): void {
    const smmu = this.#domain(domain);
    smmu.free();
    if (smmu.stage === "s1") this.#asids.free(smmu.tag);
    if (smmu.stage === "s2") this.#vmids.free(smmu.tag);
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

  async iotlbSyncMap(domain: IommuDomain, _iova: bigint, _size: bigint): Promise<void> {
    await this.#domain(domain).sync();
  }

  async iotlbSync(domain: IommuDomain, gather: IotlbGather): Promise<void> {
    await this.#domain(domain).sync(gather);
  }

  async flushIotlbAll(domain: IommuDomain): Promise<void> {
    await this.#domain(domain).flushAll();
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
