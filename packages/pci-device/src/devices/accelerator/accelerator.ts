/**
 * A data accelerator with shared and dedicated work queues, modelled on what Intel DSA and HiSilicon's accelerators offer to
 * user space: descriptors of 64 bytes with a PASID, batches, completion records, block-on-fault or fault reporting, drain
 * and abort. Left out: groups and traffic classes, delta records, DIF.
 */
import { type DevicePlugin, IommuError, NO_PASID, type PciBar, parseBdf, RegisterFile } from "@iommukit/core";
import type { ConfigReset } from "../../config-space.js";
import { type DevicePorts, devicePorts } from "../../device-ports.js";
import type { DmaResult } from "../../dma-engine.js";
import { DmaStatus } from "../../dma-status.js";
import type { AtsOptions, FunctionOptions, PasidOptions, PriOptions } from "../../function-options.js";
import { PciDevice, type PlacementOptions } from "../../pci-device.js";
import { VirtualFunctions } from "../../sriov.js";
import { Commands } from "./commands.js";
import { CompletionStatus, DESCRIPTOR } from "./descriptor.js";
import { EnginePool, swerrorPasid } from "./engine-pool.js";
import { Operations } from "./operations.js";
import {
  BAR0_SIZE,
  CAPABILITY,
  INTCAUSE,
  MAX_QUEUES,
  MSIX_PBA,
  MSIX_TABLE,
  PORTAL_SIZE,
  Portal,
  REGISTER_LISTS,
  REGISTERS_SIZE,
  SubmissionError,
  SWERROR,
  SWERROR_ADDRESS,
  WQCFG,
  WQSTS,
} from "./registers.js";
import { type DecodedDescriptor, decodeDescriptor, type WorkItem, WorkQueueUnit } from "./work.js";

/** For `accelerator()`; each part has a default. */
export interface AcceleratorOptions extends PlacementOptions {
  /** Work queues, 1 to 16. Default: 8. */
  readonly workQueues?: number;
  /** Descriptors that are processed at the same time. Default: 4. */
  readonly engines?: number;
  /** Descriptors that all queues together hold. Default: 128. */
  readonly totalSize?: number;
  /** How fast an engine moves data, in virtual time. Default: 16384, about 16 GB/s; Infinity for no time at all. */
  readonly bytesPerMicrosecond?: number;
  /** MSI-X vectors. Default: 9. */
  readonly vectors?: number;
  /** ATS, PRI and PASID; null for a device without. Defaults: 64 × 4 entries, 512 requests, 20 bits. */
  readonly ats?: AtsOptions | null;
  readonly pri?: PriOptions | null;
  readonly pasid?: PasidOptions | null;
  /** Virtual functions that software can make; none when absent. */
  readonly totalVfs?: number;
}

const MAX_TRANSFER_LOG2 = 31;
const MAX_BATCH_LOG2 = 10;

/** What the registers and the capabilities have room for. */
const RANGES = {
  workQueues: [1, MAX_QUEUES],
  engines: [1, 0xff],
  totalSize: [1, 0xffff],
  vectors: [1, (MSIX_PBA - MSIX_TABLE) / 16],
  totalVfs: [0, 0xff],
} as const;

function checkRanges(options: AcceleratorOptions): void {
  const check = (name: string, low: number, high: number, value: number | undefined) => {
    if (value !== undefined && !(Number.isInteger(value) && value >= low && value <= high))
      throw new IommuError("EINVAL", `${options.bdf}: ${name} is ${value}; ${low} to ${high} are possible`);
  };
  for (const [name, [low, high]] of Object.entries(RANGES))
    check(name, low, high, options[name as keyof typeof RANGES]);
  check("pasid.width", 1, 20, options.pasid?.width);
}

/** A VF uses its physical function's PRI and PASID, and has no VFs. */
function acceleratorFunction(options: AcceleratorOptions, virtual: boolean): FunctionOptions {
  const { workQueues = 8, vectors = 9, ats = {}, pri = {}, pasid = {}, totalVfs = 0 } = options;
  const bars: PciBar[] = [
    { index: 0, size: BAR0_SIZE, kind: "mem64", prefetchable: true },
    { index: 2, size: 2 ** Math.ceil(Math.log2(workQueues * PORTAL_SIZE)), kind: "mem64", prefetchable: true },
  ];
  return {
    vendor: 0x1234,
    device: 0x5a01,
    classCode: 0x088000,
    revision: 1,
    bars,
    functionLevelReset: true,
    tlpPrefixes: pasid !== null,
    msix: { vectors, bar: 0, table: MSIX_TABLE, pba: MSIX_PBA },
    ats: ats ?? undefined,
    pri: virtual ? undefined : (pri ?? undefined),
    pasid: virtual ? undefined : (pasid ?? undefined),
    sriov: virtual || totalVfs === 0 ? undefined : { totalVfs, bars },
  };
}

/** The function that `accelerator()` makes. */
export class Accelerator extends PciDevice {
  /** Its VFs, when it can have any. */
  readonly virtualFunctions: VirtualFunctions | undefined;
  readonly #file: RegisterFile;
  readonly #queues: readonly WorkQueueUnit[];
  readonly #pool: EnginePool;
  readonly #portals: Uint8Array;
  readonly #commands: Commands;

  constructor(
    private readonly options: AcceleratorOptions,
    ports: DevicePorts,
    physicalFunction?: Accelerator,
  ) {
    super(acceleratorFunction(options, physicalFunction !== undefined), options, ports, physicalFunction);
    const { workQueues = 8, engines = 4, vectors = 9, totalSize = 128 } = options;
    if (this.capabilities.sriov !== 0) {
      this.virtualFunctions = new VirtualFunctions(
        this,
        this.bars,
        (bdf) => new Accelerator({ ...options, bdf }, ports, this),
      );
    }
    this.#queues = Array.from({ length: workQueues }, (_, index) => new WorkQueueUnit(index));
    this.#file = new RegisterFile(this.bdf, REGISTERS_SIZE, REGISTER_LISTS[workQueues]);
    for (const queue of this.#queues) {
      this.#file.guard(WQCFG[queue.index], () => (queue.enabled ? 0 : -1));
      this.#file.onRead(WQSTS[queue.index], () => this.#showQueue(queue));
    }
    this.#portals = new Uint8Array(workQueues * PORTAL_SIZE);
    this.#presetRegisters();
    const limits = { maxTransferSize: 2 ** MAX_TRANSFER_LOG2, maxBatchSize: 2 ** MAX_BATCH_LOG2 };
    this.#pool = new EnginePool(
      { name: this.bdf, engines, vectors, ...limits },
      this.#queues,
      new Operations(this.dma, ports.scheduler, options.bytesPerMicrosecond ?? 16_384),
      ports.scheduler,
      (vector) => this.interrupts.raise(vector),
      (error, item, address) => this.#softwareError(error, item, address),
    );
    this.#commands = new Commands(this.#file, this.#queues, this.#pool, totalSize, {
      name: this.bdf,
      dma: this.dma,
      scheduler: ports.scheduler,
      interrupt: () => this.interrupts.raise(0),
      stopPasid: (pasid) => this.stopPasid(pasid),
    });
  }

  #presetRegisters(): void {
    const { workQueues = 8, engines = 4, totalSize = 128 } = this.options;
    const capability = CAPABILITY.encode({
      WorkQueues: workQueues,
      Engines: engines,
      TotalSize: totalSize,
      MaxTransferSizeLog2: MAX_TRANSFER_LOG2,
      MaxBatchSizeLog2: MAX_BATCH_LOG2,
      BlockOnFaultSupport: this.pri !== undefined,
    });
    this.#file.set(CAPABILITY, capability[0], capability[1]);
  }

  // BARs.

  protected override readRegion(bar: number, offset: number, into: Uint8Array): boolean {
    if (bar === 2) {
      into.set(this.#portals.subarray(offset, offset + into.length));
      return true;
    }
    if (offset % 4 !== 0 || (into.length !== 4 && into.length !== 8)) return false;
    const view = new DataView(into.buffer, into.byteOffset, into.length);
    for (let at = 0; at < into.length; at += 4)
      view.setUint32(at, offset + at < REGISTERS_SIZE ? this.#file.read32(offset + at) : 0, true);
    return true;
  }

  protected override writeRegion(bar: number, offset: number, bytes: Uint8Array): boolean {
    if (bar === 2) return this.#writePortal(Math.floor(offset / PORTAL_SIZE), offset % PORTAL_SIZE, bytes);
    const aligned = offset % bytes.length === 0 && (bytes.length === 4 || bytes.length === 8);
    if (!aligned || offset >= REGISTERS_SIZE) return aligned;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    if (bytes.length === 8) this.#file.write64(offset, view.getBigUint64(0, true));
    else this.#file.write32(offset, view.getUint32(0, true));
    return true;
  }

  /** Accesses of any width gather in the page; the one that reaches a structure's last byte sets it off. */
  #writePortal(index: number, offset: number, bytes: Uint8Array): boolean {
    const queue = this.#queues[index];
    const end = offset + bytes.length;
    const writable = end <= Portal.STATUS || (offset >= Portal.PASID && end <= Portal.DOORBELL + 8);
    if (queue === undefined || !writable) return false;
    const page = this.#portals.subarray(index * PORTAL_SIZE, (index + 1) * PORTAL_SIZE);
    page.set(bytes, offset);
    if (end === DESCRIPTOR.bytes) {
      const descriptor = decodeDescriptor(page);
      this.#submit(queue, descriptor, this.#pasidOf(queue, descriptor.pasid, true), descriptor.privileged);
    } else if (end === Portal.DOORBELL + 8) {
      const view = new DataView(page.buffer, page.byteOffset);
      const said = view.getUint32(Portal.PASID, true);
      this.#ring(
        queue,
        this.#pasidOf(queue, said & 0xf_ffff, said >>> 31 === 1),
        view.getBigUint64(Portal.DOORBELL, true),
      );
    }
    return true;
  }

  /** A dedicated queue has its PASID; in a shared one the submitter says it. */
  #pasidOf({ settings }: WorkQueueUnit, said: number, valid: boolean): number {
    return settings.pasid ?? (valid ? said : NO_PASID);
  }

  #setStatus(queue: WorkQueueUnit, retry: boolean): void {
    this.#portals[queue.index * PORTAL_SIZE + Portal.STATUS] = retry ? 1 : 0;
  }

  #submit(queue: WorkQueueUnit, descriptor: DecodedDescriptor, pasid: number, privileged: boolean): void {
    const item = queue.item(descriptor, pasid, queue.settings.dedicated ? queue.settings.privileged : privileged);
    this.#setStatus(queue, queue.enabled && queue.full && !queue.settings.dedicated);
    if (!queue.enabled) this.#softwareError(SubmissionError.QUEUE_DISABLED, item, 0n);
    else if (!queue.full) {
      queue.waiting.push(item);
      this.#pool.kick();
    } else if (queue.settings.dedicated) this.#softwareError(SubmissionError.QUEUE_FULL, item, 0n);
  }

  /**
   * The descriptor is in memory: an engine fetches it as if it were a batch of one. Until it is there its place in the queue is
   * taken, so that commands drain and abort the fetch as well.
   */
  #ring(queue: WorkQueueUnit, pasid: number, address: bigint): void {
    const bytes = new Uint8Array(DESCRIPTOR.bytes);
    const fetch = queue.item(decodeDescriptor(bytes), pasid, false);
    queue.running.add(fetch);
    this.ports.scheduler.spawn(`${this.bdf} doorbell ${queue.index}`, async () => {
      const onFault = queue.settings.blockOnFault ? "request" : "report";
      const got = await this.dma.read(pasid, address, bytes, { onFault, owner: fetch });
      if (!fetch.aborted) this.#fetched(queue, decodeDescriptor(bytes), pasid, got);
      queue.running.delete(fetch);
      this.#pool.wake();
    });
  }

  #fetched(queue: WorkQueueUnit, descriptor: DecodedDescriptor, pasid: number, { status, address }: DmaResult): void {
    if (status === DmaStatus.OK) this.#submit(queue, descriptor, pasid, descriptor.privileged);
    else this.#softwareError(CompletionStatus.TRANSLATION_FAIL, queue.item(descriptor, pasid, false), address);
  }

  #softwareError(error: number, item: WorkItem, address: bigint): void {
    const { words } = this.#file;
    if (SWERROR.Valid.get(words, SWERROR.index) === 1) {
      SWERROR.Overflow.set(words, SWERROR.index, 1);
      return;
    }
    const { opcode } = item.descriptor;
    const entry = SWERROR.encode({
      Valid: true,
      Error: error,
      WorkQueue: item.queue,
      Opcode: opcode,
      ...swerrorPasid(item),
    });
    this.#file.set(SWERROR, entry[0], entry[1]);
    SWERROR_ADDRESS.Address.setBig(words, SWERROR_ADDRESS.index, address);
    INTCAUSE.SoftwareError.set(words, INTCAUSE.index, 1);
    this.interrupts.raise(0);
  }

  #showQueue(queue: WorkQueueUnit): void {
    const status = WQSTS[queue.index].encode({ Enabled: queue.enabled, Occupancy: queue.waiting.length });
    this.#file.set(WQSTS[queue.index], status[0]);
  }

  override remove(): void {
    super.remove();
    this.virtualFunctions?.update();
  }

  protected override resetDevice(_kind: ConfigReset): void {
    this.virtualFunctions?.update();
    this.#commands.forget();
    for (const queue of this.#queues) {
      queue.abort(() => true);
      queue.enabled = false;
    }
    this.#file.reset();
    this.#presetRegisters();
    this.#portals.fill(0);
    this.#pool.wake();
  }
}

/** A data accelerator at `bdf`; behind the IOMMU of the bdf's segment. @throws IommuError EINVAL an option out of its range */
export function accelerator(options: AcceleratorOptions): DevicePlugin {
  checkRanges(options);
  return {
    name: `accelerator ${options.bdf}`,
    segment: parseBdf(options.bdf).segment,
    create: (container) => [new Accelerator(options, devicePorts(container))],
  };
}
