/**
 * An IOMMU without hardware: it keeps plain maps, notes every call in order, and fails or takes time where it is told to.
 * What the core does to its drivers is tested with it.
 */
import type { IommuChip } from "../bus/ports.js";
import { AtsStatus, TranslationStatus } from "../bus/transaction.js";
import type { IommuCap } from "../iommu/capabilities.js";
import type { Device } from "../iommu/device.js";
import type { DomainType, IommuDomain, IotlbGather } from "../iommu/domain.js";
import type { IoMmContext, IommuOps, SvaOps } from "../iommu/iommu-ops.js";
import type { ReservedRegion } from "../iommu/reserved-region.js";
import type { IopfResponse } from "../iopf/fault.js";
import { type Errno, IommuError } from "../kernel/errno.js";
import { Scheduler } from "../kernel/scheduler.js";
import type { Mm } from "../mm/mm.js";
import type { IommuInstance, IommuPlugin } from "../platform/iommu-plugin.js";
import type { SvaParam } from "../sva/device-init.js";
import type { IoMm } from "../sva/io-mm.js";

type AllOps = Required<IommuOps>;

export type FakeOp = {
  [K in keyof AllOps]: AllOps[K] extends (...args: never[]) => unknown ? K : never;
}[keyof AllOps];

/** Page tables as a plain map, and a PASID table as another. */
export class FakeDomain implements IommuDomain {
  pgsizeBitmap = 0x4020_1000n;
  aperture = { start: 0n, end: (1n << 48n) - 1n };
  readonly pages = new Map<bigint, number>();
  readonly pasids = new Map<number, Mm>();

  constructor(
    readonly id: number,
    readonly type: DomainType,
    readonly ops: IommuOps,
  ) {}
}

export class FakeIommuOps implements IommuOps, SvaOps {
  readonly name = "fake-iommu";
  /** Every call that changes something: "mmAttach 0000:01:00.0 1 first". */
  readonly calls: string[] = [];
  readonly responses: (IopfResponse & { readonly device: string })[] = [];
  /** The limits that svaDeviceInit puts on a device. */
  minPasid = 1;
  maxPasid = 0xfffff;
  /** Nanoseconds that an asynchronous operation takes. */
  readonly delays: Partial<Record<FakeOp, number>> = {};
  /** Contexts that mmAlloc made and mmFree did not get back. */
  readonly contexts = new Set<IoMmContext>();
  readonly #failures = new Map<FakeOp, { readonly code: Errno; skip: number }>();
  #nextDomain = 1;

  constructor(readonly scheduler: Scheduler) {}

  /** The call of `op` after `skip` more fails, once. */
  fail(op: FakeOp, code: Errno, skip = 0): void {
    this.#failures.set(op, { code, skip });
  }

  #note(op: FakeOp, ...args: readonly (string | number | bigint)[]): void {
    this.calls.push([op, ...args].join(" "));
    const failure = this.#failures.get(op);
    if (!failure || failure.skip-- > 0) return;
    this.#failures.delete(op);
    throw new IommuError(failure.code, `${op} was told to fail`);
  }

  async #slow(op: FakeOp, ...args: readonly (string | number | bigint)[]): Promise<void> {
    const delay = this.delays[op];
    if (delay) await this.scheduler.sleep(delay);
    this.#note(op, ...args);
  }

  capable(_dev?: Device, _cap?: IommuCap): boolean {
    return true;
  }

  probeDevice(dev: Device): Promise<void> {
    return this.#slow("probeDevice", dev.name);
  }

  releaseDevice(dev: Device): Promise<void> {
    return this.#slow("releaseDevice", dev.name);
  }

  reservedRegions(): readonly ReservedRegion[] {
    return [];
  }

  domainAlloc(type: DomainType, dev: Device): IommuDomain {
    this.#note("domainAlloc", type, dev.name);
    return new FakeDomain(this.#nextDomain++, type, this);
  }

  domainFree(domain: IommuDomain): void {
    this.#note("domainFree", domain.id);
  }

  attachDev(domain: IommuDomain, dev: Device): Promise<void> {
    return this.#slow("attachDev", dev.name, domain.id);
  }

  detachDev(domain: IommuDomain, dev: Device): Promise<void> {
    return this.#slow("detachDev", dev.name, domain.id);
  }

  resetPrepare(dev: Device): Promise<void> {
    return this.#slow("resetPrepare", dev.name);
  }

  resetDone(dev: Device): Promise<void> {
    return this.#slow("resetDone", dev.name);
  }

  map(domain: FakeDomain, iova: bigint, pa: number, pgsize: number, count: number, _prot?: number): number {
    this.#note("map", domain.id, iova, count);
    for (let i = 0; i < count; i++) domain.pages.set(iova + BigInt(i * pgsize), pa + i * pgsize);
    return pgsize * count;
  }

  unmap(domain: FakeDomain, iova: bigint, pgsize: number, count: number, gather: IotlbGather): number {
    this.#note("unmap", domain.id, iova, count);
    let unmapped = 0;
    for (let i = 0; i < count; i++) if (domain.pages.delete(iova + BigInt(i * pgsize))) unmapped += pgsize;
    gather.start = iova;
    gather.end = iova + BigInt(count * pgsize) - 1n;
    return unmapped;
  }

  iotlbSyncMap(): Promise<void> {
    return this.#slow("iotlbSyncMap");
  }

  iotlbSync(domain: IommuDomain): Promise<void> {
    return this.#slow("iotlbSync", domain.id);
  }

  flushIotlbAll(domain: IommuDomain): Promise<void> {
    return this.#slow("flushIotlbAll", domain.id);
  }

  iovaToPhys(domain: FakeDomain, iova: bigint): number | undefined {
    const base = domain.pages.get(iova & ~0xfffn);
    return base === undefined ? undefined : base + Number(iova & 0xfffn);
  }

  enforceCacheCoherency(): boolean {
    return true;
  }

  async svaDeviceInit(dev: Device, param: SvaParam): Promise<void> {
    await this.#slow("svaDeviceInit", dev.name);
    param.minPasid = Math.max(param.minPasid, this.minPasid);
    param.maxPasid = Math.min(param.maxPasid, this.maxPasid);
  }

  svaDeviceShutdown(dev: Device): Promise<void> {
    return this.#slow("svaDeviceShutdown", dev.name);
  }

  async mmAlloc(_domain: IommuDomain, mm: Mm): Promise<IoMmContext> {
    await this.#slow("mmAlloc", mm.owner);
    const context = { mm };
    this.contexts.add(context);
    return context;
  }

  mmFree(context: IoMmContext): void {
    this.contexts.delete(context);
    this.#note("mmFree");
  }

  async mmAttach(domain: FakeDomain, dev: Device, ioMm: IoMm, attachDomain: boolean): Promise<void> {
    await this.#slow("mmAttach", dev.name, ioMm.pasid, attachDomain ? "first" : "further");
    if (attachDomain) domain.pasids.set(ioMm.pasid, ioMm.mm);
  }

  async mmDetach(domain: FakeDomain, dev: Device, ioMm: IoMm, detachDomain: boolean): Promise<void> {
    await this.#slow("mmDetach", dev.name, ioMm.pasid, detachDomain ? "last" : "further");
    if (detachDomain) domain.pasids.delete(ioMm.pasid);
  }

  mmExit(_domain: IommuDomain, dev: Device, ioMm: IoMm): Promise<void> {
    return this.#slow("mmExit", dev.name, ioMm.pasid);
  }

  mmInvalidate(_domain: IommuDomain, dev: Device, ioMm: IoMm, start: bigint, size: bigint): Promise<void> {
    return this.#slow("mmInvalidate", dev.name, ioMm.pasid, `0x${start.toString(16)}`, `0x${size.toString(16)}`);
  }

  async pageResponse(dev: Device, response: IopfResponse): Promise<void> {
    await this.#slow("pageResponse", dev.name, response.grpid, response.code);
    this.responses.push({ ...response, device: dev.name });
  }
}

/** A chip that translates nothing. */
const NO_CHIP: IommuChip = {
  name: "fake",
  units: [],
  reset: () => {},
  read32: () => 0,
  write32: () => {},
  read64: () => 0n,
  write64: () => {},
  translate: () => TranslationStatus.UNSUPPORTED,
  translationRequest: () => AtsStatus.UR,
  pageRequest: () => {},
  invalidateCompletion: () => {},
  commandsConsumed: () => ({}),
};

export class FakeIommu implements IommuInstance {
  readonly chip = NO_CHIP;
  readonly ops: FakeIommuOps;

  constructor(
    scheduler: Scheduler,
    readonly name = "fake",
  ) {
    this.ops = new FakeIommuOps(scheduler);
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {}
}

/** For `createPlatform`. The instance is `platform.iommus[n]`. */
export const fakeIommu: IommuPlugin = {
  name: "fake",
  description: "an IOMMU without hardware that notes what it is asked to do",
  create: (container, name) => new FakeIommu(container.resolve(Scheduler), name),
};
