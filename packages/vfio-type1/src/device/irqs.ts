/** VFIO_DEVICE_GET_IRQ_INFO and SET_IRQS of vfio_pci: INTx, MSI, MSI-X, error and request interrupts as eventfds. */
import {
  type EventFd,
  IommuError,
  type Mutex,
  type PciFunction,
  pciPcieType,
  readField,
  type Task,
  TYPE0_HEADER,
  type UserPointer,
} from "@iommukit/core";
import { IrqInfo, IrqInfoFlags, IrqSet, IrqSetFlags, PciIrq } from "../uapi/device-structs.js";
import { decodeStruct, encodeStruct } from "../uapi/struct.js";
import { eventOf } from "./event-of.js";
import { Intx } from "./intx.js";
import {
  type AllocateMessages,
  type MessageInterrupts,
  MsiVectors,
  MsixVectors,
  type PrepareMessage,
} from "./msi-vectors.js";

const DATA_TYPES = IrqSetFlags.DATA_NONE | IrqSetFlags.DATA_BOOL | IrqSetFlags.DATA_EVENTFD;
const ACTIONS = IrqSetFlags.ACTION_MASK | IrqSetFlags.ACTION_UNMASK | IrqSetFlags.ACTION_TRIGGER;
const U32_MAX = 0xffff_ffff;

export interface IrqOptions {
  /** MSI-X vectors may be added while others are in use (VFIO_IRQ_INFO_NORESIZE is clear). */
  readonly dynamicMsix: boolean;
  /** The error interrupt exists for PCI Express devices alone. */
  readonly errorNeedsPcie: boolean;
}

interface Request {
  readonly flags: number;
  readonly index: number;
  readonly start: number;
  readonly count: number;
  /** One entry for each interrupt: a flag, or a descriptor; empty without data. */
  readonly data: readonly number[];
}

export class DeviceIrqs {
  readonly intx: Intx;
  readonly msi: MsiVectors;
  readonly msix: MsixVectors;
  /** ERR and REQ. */
  readonly #single = new Map<number, EventFd>();

  /** @param igate vdev->igate: programs' calls take turns */
  constructor(
    private readonly pci: PciFunction,
    private readonly igate: Mutex,
    private readonly options: IrqOptions,
    allocate: AllocateMessages,
    prepare: PrepareMessage,
  ) {
    this.intx = new Intx(pci);
    this.msi = new MsiVectors(pci, allocate, prepare);
    this.msix = new MsixVectors(pci, allocate, prepare);
  }

  count(index: number): number {
    switch (index) {
      case PciIrq.INTX:
        return readField(this.pci, 0, TYPE0_HEADER.InterruptPin) === 0 ? 0 : 1;
      case PciIrq.MSI:
        return this.msi.available;
      case PciIrq.MSIX:
        return this.msix.available;
      case PciIrq.ERR:
        return this.#hasError ? 1 : 0;
      default:
        return index === PciIrq.REQ ? 1 : 0;
    }
  }

  get #dynamicMsix(): boolean {
    return this.options.dynamicMsix && this.msix.available > 0;
  }

  get #hasError(): boolean {
    return !this.options.errorNeedsPcie || pciPcieType(this.pci) !== undefined;
  }

  async getInfo(arg: UserPointer): Promise<number> {
    const { argsz, index } = decodeStruct(IrqInfo, await arg.copyFrom(IrqInfo.bytes));
    if (argsz < IrqInfo.bytes || index >= PciIrq.COUNT || (index === PciIrq.ERR && !this.#hasError))
      throw new IommuError("EINVAL", `argsz ${argsz}, interrupt ${index} of ${this.pci.bdf}`);
    await arg.copyTo(encodeStruct(IrqInfo, { argsz, flags: this.#flags(index), index, count: this.count(index) }));
    return 0;
  }

  #flags(index: number): number {
    const { EVENTFD, MASKABLE, AUTOMASKED, NORESIZE } = IrqInfoFlags;
    if (index === PciIrq.INTX) return EVENTFD | MASKABLE | AUTOMASKED;
    return index === PciIrq.MSIX && this.#dynamicMsix ? EVENTFD : EVENTFD | NORESIZE;
  }

  async set(task: Task, arg: UserPointer): Promise<number> {
    const request = await this.#copy(arg);
    await this.igate.with(() => this.#carryOut(task, request));
    return 0;
  }

  async #carryOut(task: Task, request: Request): Promise<void> {
    const { flags, index } = request;
    const action = flags & ACTIONS;
    if (index === PciIrq.INTX && action === IrqSetFlags.ACTION_MASK) this.#maskIntx(request);
    else if (index === PciIrq.INTX && action === IrqSetFlags.ACTION_UNMASK) this.#unmaskIntx(task, request);
    else if (action !== IrqSetFlags.ACTION_TRIGGER) throw unsupported(index, action);
    else if (index === PciIrq.INTX) this.#triggerIntx(task, request);
    else if (index === PciIrq.MSI || index === PciIrq.MSIX) await this.#triggerMessage(task, request);
    else this.#triggerSingle(task, request);
  }

  /** vfio_set_irqs_validate_and_prepare. */
  async #copy(arg: UserPointer): Promise<Request> {
    const { argsz, flags, index, start, count } = decodeStruct(IrqSet, await arg.copyFrom(IrqSet.bytes));
    const available = this.count(index);
    if (
      argsz < IrqSet.bytes ||
      index >= PciIrq.COUNT ||
      count >= U32_MAX - start ||
      (flags & ~(DATA_TYPES | ACTIONS)) !== 0
    )
      throw new IommuError("EINVAL", `argsz ${argsz}, flags ${flags}, interrupt ${index}, count ${count}`);
    if (start >= available || start + count > available)
      throw new IommuError("EINVAL", `interrupts ${start} to ${start + count} of ${available}`);
    const size = dataSize(flags) * count;
    if (argsz - IrqSet.bytes < size) throw new IommuError("EINVAL", `argsz ${argsz} has no room for ${count} entries`);
    const bytes = size > 0 ? await arg.copyFrom(size, IrqSet.bytes) : new Uint8Array(0);
    const data = (flags & IrqSetFlags.DATA_EVENTFD) !== 0 ? [...new Int32Array(bytes.slice().buffer)] : [...bytes];
    return { flags, index, start, count, data };
  }

  #maskIntx({ flags, start, count, data }: Request): void {
    this.#needsIntx(start, count);
    if ((flags & IrqSetFlags.DATA_EVENTFD) !== 0) throw unsupported(PciIrq.INTX, IrqSetFlags.ACTION_MASK);
    if ((flags & IrqSetFlags.DATA_NONE) !== 0 || data[0] !== 0) this.intx.mask();
  }

  #unmaskIntx(task: Task, { flags, start, count, data }: Request): void {
    this.#needsIntx(start, count);
    if ((flags & IrqSetFlags.DATA_EVENTFD) !== 0) this.intx.unmaskOn(eventFd(task, data[0]));
    else if ((flags & IrqSetFlags.DATA_NONE) !== 0 || data[0] !== 0) this.intx.unmask();
  }

  #needsIntx(start: number, count: number): void {
    if (!this.intx.enabled || start !== 0 || count !== 1)
      throw new IommuError("EINVAL", `${this.pci.bdf}: INTx is not enabled, or not exactly one was meant`);
  }

  #triggerIntx(task: Task, { flags, start, count, data }: Request): void {
    const { intx } = this;
    const none = (flags & IrqSetFlags.DATA_NONE) !== 0;
    if (intx.enabled && count === 0 && none) {
      intx.disable();
      return;
    }
    if (!(intx.enabled || this.#idle) || start !== 0 || count !== 1)
      throw new IommuError("EINVAL", `${this.pci.bdf}: INTx, start ${start}, count ${count}`);
    if ((flags & IrqSetFlags.DATA_EVENTFD) !== 0) {
      const trigger = eventFd(task, data[0]);
      if (intx.enabled) intx.trigger = trigger;
      else intx.enable(trigger);
      return;
    }
    if (!intx.enabled) throw new IommuError("EINVAL", `${this.pci.bdf}: INTx is not enabled`);
    if (none || data[0] !== 0) intx.trigger?.signal();
  }

  /** No kind of interrupt is enabled: only one can be at a time. */
  get #idle(): boolean {
    return !this.intx.enabled && this.msi.enabled === 0 && this.msix.enabled === 0;
  }

  async #triggerMessage(task: Task, { flags, index, start, count, data }: Request): Promise<void> {
    const kind: MessageInterrupts = index === PciIrq.MSI ? this.msi : this.msix;
    const enabled = kind.enabled > 0;
    const none = (flags & IrqSetFlags.DATA_NONE) !== 0;
    if (enabled && count === 0 && none) {
      kind.disable();
      return;
    }
    if (!(enabled || this.#idle))
      throw new IommuError("EINVAL", `${this.pci.bdf}: another kind of interrupt is enabled`);
    if ((flags & IrqSetFlags.DATA_EVENTFD) !== 0) {
      if (!enabled) await kind.enable(start + count);
      else if (start + count > kind.enabled && !(index === PciIrq.MSIX && this.#dynamicMsix))
        throw new IommuError("EINVAL", `${this.pci.bdf}: only ${kind.enabled} vectors are enabled`);
      await this.#setBlock(task, kind, start, data, enabled);
      return;
    }
    if (!enabled) throw new IommuError("EINVAL", `${this.pci.bdf}: the interrupts are not enabled`);
    for (let i = 0; i < count; i++) if (none || data[i] !== 0) kind.trigger(start + i)?.signal();
  }

  /** All vectors or none. */
  async #setBlock(
    task: Task,
    kind: MessageInterrupts,
    start: number,
    fds: readonly number[],
    wasEnabled: boolean,
  ): Promise<void> {
    const done: number[] = [];
    try {
      for (const [i, fd] of fds.entries()) {
        await kind.set(start + i, eventFd(task, fd));
        done.push(start + i);
      }
    } catch (error) {
      if (!wasEnabled) kind.disable();
      else for (const vector of done) await kind.set(vector, undefined);
      throw error;
    }
  }

  /** vfio_pci_set_ctx_trigger_single: any negative descriptor but -1 changes nothing. */
  #triggerSingle(task: Task, { flags, index, count, data }: Request): void {
    const current = this.#single.get(index);
    if ((flags & IrqSetFlags.DATA_NONE) !== 0) {
      if (!current) throw new IommuError("EINVAL", `${this.pci.bdf}: nobody is told of interrupt ${index}`);
      if (count > 0) current.signal();
      else this.#single.delete(index);
      return;
    }
    if (count === 0) throw new IommuError("EINVAL", "no entry");
    if ((flags & IrqSetFlags.DATA_BOOL) !== 0) {
      if (data[0] !== 0) current?.signal();
      return;
    }
    const trigger = eventFd(task, data[0]);
    if (trigger) this.#single.set(index, trigger);
    else if (data[0] === -1) this.#single.delete(index);
  }

  /** Asks the program to let go of the device. */
  request(): void {
    this.#single.get(PciIrq.REQ)?.signal();
  }

  disableAll(): void {
    this.intx.disable();
    this.msi.disable();
    this.msix.disable();
    this.#single.clear();
  }
}

function dataSize(flags: number): number {
  switch (flags & DATA_TYPES) {
    case IrqSetFlags.DATA_NONE:
      return 0;
    case IrqSetFlags.DATA_BOOL:
      return 1;
    case IrqSetFlags.DATA_EVENTFD:
      return 4;
    default:
      throw new IommuError("EINVAL", `flags ${flags}: exactly one of NONE, BOOL, EVENTFD`);
  }
}

/** A negative descriptor stands for none. @throws IommuError EBADF, EINVAL */
function eventFd(task: Task, fd: number): EventFd | undefined {
  return fd < 0 ? undefined : eventOf(task, fd);
}

function unsupported(index: number, action: number): IommuError {
  return new IommuError("ENOTTY", `action ${action} on interrupt ${index}`);
}
