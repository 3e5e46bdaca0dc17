/** The plain IOMMU's driver: it knows registers and memory, and nothing of what is behind them. */
import {
  createX86Table,
  type Device,
  DOORBELL_BASE,
  DOORBELL_SIZE,
  type DomainType,
  hex,
  type InterruptController,
  type IommuCap,
  type IommuDomain,
  IommuError,
  type IommuOps,
  IommuProt,
  type IotlbGather,
  type Kernel,
  type Mmio,
  PAGE_SIZE,
  type PageAllocator,
  PageFlag,
  type PhysicalMemory,
  type ReservedRegion,
  type TableWriter,
  type Tracer,
} from "@iommukit/core";
import { CTRL, DEVICE_ENTRY, DEVTAB, FAULT, INVALIDATE } from "./spec.js";

const REQUESTERS = 0x1_0000;
/** The hardware sets no accessed and dirty bits. */
const READABLE = PageFlag.USER | PageFlag.EXEC | PageFlag.ACCESSED | PageFlag.DIRTY;
const SPACE = 1n << 48n;

class PlainDomain implements IommuDomain {
  readonly pgsizeBitmap = BigInt(PAGE_SIZE);
  readonly aperture = { start: 0n, end: SPACE - 1n };
  readonly devices = new Set<Device>();

  constructor(
    readonly id: number,
    readonly type: DomainType,
    readonly ops: IommuOps,
    readonly table: TableWriter,
  ) {}
}

export class PlainDriver implements IommuOps {
  readonly name = "plain-iommu";
  #devices = 0;

  constructor(
    private readonly mmio: Mmio,
    private readonly memory: PhysicalMemory,
    private readonly pages: PageAllocator,
    private readonly interrupts: InterruptController,
    private readonly trace: Tracer,
    private readonly kernel: Kernel,
  ) {}

  async start(): Promise<void> {
    this.#devices = this.pages.alloc((REQUESTERS * DEVICE_ENTRY.bytes) / PAGE_SIZE, "plain device table");
    this.mmio.write64(DEVTAB.offset, BigInt(this.#devices));
    this.interrupts.requestWire("plain.fault", () => this.#reportFault());
    this.mmio.write32(CTRL.offset, CTRL.encode({ EN: true })[0]);
  }

  async stop(): Promise<void> {
    this.mmio.write32(CTRL.offset, 0);
    this.interrupts.freeWire("plain.fault");
    this.pages.free(this.#devices);
  }

  /** In interrupt context. */
  #reportFault(): void {
    const words = Int32Array.of(this.mmio.read32(FAULT.offset), this.mmio.read32(FAULT.offset + 4));
    const { WRITE, REASON, PAGE, RID } = FAULT.decode(words);
    const access = WRITE ? "write" : "read";
    this.kernel.printk(`plain-iommu: ${access} of ${hex(PAGE)} by requester ${hex(RID, 4)} refused: ${REASON}`);
    this.mmio.write32(FAULT.offset, FAULT.encode({ F: true })[0]);
  }

  capable(_dev: Device, cap: IommuCap): boolean {
    return cap === "cache-coherency" || cap === "enforce-cache-coherency";
  }

  async probeDevice(): Promise<void> {}
  async releaseDevice(): Promise<void> {}

  /** Messages pass untranslated. */
  reservedRegions(): readonly ReservedRegion[] {
    return [{ start: BigInt(DOORBELL_BASE), length: BigInt(DOORBELL_SIZE), type: "msi", prot: IommuProt.WRITE }];
  }

  domainAlloc(type: DomainType): IommuDomain {
    if (type !== "dma" && type !== "unmanaged")
      throw new IommuError("EOPNOTSUPP", `plain-iommu has no ${type} domains`);
    const { memory, pages, trace } = this;
    const id = this.kernel.nextDomainId();
    return new PlainDomain(id, type, this, createX86Table({ memory, pages, trace }, `plain domain ${id}`));
  }

  domainFree(domain: IommuDomain): void {
    (domain as PlainDomain).table.destroy();
  }

  async attachDev(domain: IommuDomain, dev: Device): Promise<void> {
    const { devices, table } = domain as PlainDomain;
    (dev.iommuPriv as PlainDomain | undefined)?.devices.delete(dev);
    dev.iommuPriv = domain;
    devices.add(dev);
    this.#setEntry(dev, DEVICE_ENTRY.encode({ V: true, ROOT: table.root }));
  }

  async detachDev(domain: IommuDomain, dev: Device): Promise<void> {
    if (!(domain as PlainDomain).devices.delete(dev)) return;
    dev.iommuPriv = undefined;
    this.#setEntry(dev, DEVICE_ENTRY.encode({}));
  }

  #setEntry({ rid }: Device, [lo, hi]: Int32Array): void {
    this.memory.store64(this.#devices + rid * DEVICE_ENTRY.bytes, hi, lo);
    this.#forget(rid);
  }

  #forget(rid: number): void {
    this.mmio.write32(INVALIDATE.offset, INVALIDATE.encode({ RID: rid })[0]);
  }

  map(domain: IommuDomain, iova: bigint, pa: number, pgsize: number, count: number, prot: number): number {
    const { table, id } = domain as PlainDomain;
    const size = pgsize * count;
    if (pgsize !== PAGE_SIZE) throw new IommuError("EINVAL", `${hex(pgsize)}: plain-iommu has pages of ${PAGE_SIZE}`);
    if (iova + BigInt(size) > SPACE)
      throw new IommuError("ERANGE", `${hex(iova)}+${hex(size)} is beyond ${hex(SPACE)}`);
    const flags = READABLE | ((prot & IommuProt.WRITE) === 0 ? 0 : PageFlag.WRITE);
    const first = Number(iova) / PAGE_SIZE;
    for (let n = 0; n < count; n++) {
      const at = iova + BigInt(n * PAGE_SIZE);
      if (table.lookup(at)) throw new IommuError("EEXIST", `${hex(at)} is mapped already`);
    }
    for (let n = 0; n < count; n++) table.map(first + n, pa + n * PAGE_SIZE, flags);
    if (this.trace.enabled) this.trace.emit("iommu:mapped", { unit: "plain", domain: id, iova, pa, size });
    return size;
  }

  unmap(domain: IommuDomain, iova: bigint, _pgsize: number, count: number, gather: IotlbGather): number {
    const { table, id } = domain as PlainDomain;
    let pages = 0;
    while (pages < count && table.lookup(iova + BigInt(pages * PAGE_SIZE))) pages++;
    if (pages === 0) return 0;
    const first = Number(iova) / PAGE_SIZE;
    gather.freelist ??= [];
    table.clear(first, first + pages, gather.freelist);
    const size = pages * PAGE_SIZE;
    if (this.trace.enabled) this.trace.emit("iommu:unmapped", { unit: "plain", domain: id, iova, size });
    return size;
  }

  /** The hardware caches nothing that is not there. */
  iotlbSyncMap(): undefined {}

  /** The hardware forgets a device as a whole; then nobody uses the tables that became empty. */
  iotlbSync(domain: IommuDomain, { freelist = [] }: IotlbGather): undefined {
    this.flushIotlbAll(domain);
    (domain as PlainDomain).table.release(freelist);
  }

  flushIotlbAll(domain: IommuDomain): undefined {
    for (const { rid } of (domain as PlainDomain).devices) this.#forget(rid);
  }

  iovaToPhys(domain: IommuDomain, iova: bigint): number | undefined {
    return (domain as PlainDomain).table.lookup(iova)?.pa;
  }

  enforceCacheCoherency(): boolean {
    return true;
  }
}
