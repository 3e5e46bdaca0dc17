/**
 * I/O page fault queues (E1–E5): one work queue per IOMMU. A request that is not the last of its group is parked with its
 * device; the last one takes the group to a worker. Groups are handled in any order, the requests of one in theirs; the
 * first failure ends a group, and each group is answered once.
 */
import type { Device } from "../iommu/device.js";
import { IommuError } from "../kernel/errno.js";
import type { Kernel } from "../kernel/kernel.js";
import { unfailing } from "../kernel/unfailing.js";
import { WorkQueue } from "../kernel/work-queue.js";
import type { IommuInstance } from "../platform/iommu-plugin.js";
import type { Variants } from "../platform/variants.js";
import { FaultPerm, type FaultSink, type IopfFault, type IopfResponseCode } from "./fault.js";
import type { IopfGroup } from "./group.js";
import { IopfDevice, MAX_GROUPS, MAX_PARTIAL } from "./iopf-device.js";

/** Groups that are handled at the same time: the queue is unbound, its workers sleep in the address space. */
const MAX_ACTIVE = 16;

export class IopfQueues implements FaultSink {
  readonly #devices = new Map<Device, IopfDevice>();
  readonly #queues = new Map<IommuInstance | undefined, WorkQueue>();
  readonly #flushes = new WeakMap<Device, () => Promise<void>>();

  constructor(
    private readonly kernel: Kernel,
    private readonly handle: (device: Device, fault: IopfFault) => Promise<IopfResponseCode>,
    private readonly variants: Variants,
  ) {}

  /** iopf_queue_add_device: from now on the device's faults are taken. */
  addDevice(device: Device): void {
    this.#devices.set(device, new IopfDevice(device, this.#queueOf(device)));
  }

  /**
   * iopf_queue_remove_device: page requests have been stopped. What waits for an answer gets INVALID, what is parked is
   * forgotten, and workers that come later find nobody to answer (E16).
   */
  async removeDevice(device: Device): Promise<void> {
    const state = this.#devices.get(device);
    if (!state) return;
    this.#devices.delete(device);
    this.#drop(state, "device removed");
    for (const group of [...state.pending]) await this.#answer(state, group, "invalid");
  }

  report(dev: Device, fault: IopfFault): void {
    const state = this.#devices.get(dev);
    if (!state) throw new IommuError("EINVAL", `nobody handles page faults of ${dev.name}`);
    if (isStopMarker(fault)) return;
    if (this.variants.has("L-6"))
      this.kernel.scheduler.spawn(`fault of ${dev.name}`, async () => this.#take(state, fault));
    else this.#take(state, fault);
  }

  /** In the step in which the device was found: it may be removed in the next (iopf_lock). */
  #take(state: IopfDevice, fault: IopfFault): void {
    const { device } = state;
    if (this.#devices.get(device) !== state)
      this.kernel.printk(`BUG: KASAN: use-after-free of the fault parameters of ${device.name}`);
    if (fault.last) this.#close(state, fault);
    else this.#park(state, fault);
  }

  #close(state: IopfDevice, fault: IopfFault): void {
    const noMemory = state.pending.size >= MAX_GROUPS || this.kernel.allocationFails("iopf_group");
    if (noMemory && this.variants.has("S-15")) return;
    const group = state.close(fault);
    state.pending.add(group);
    state.queue.queue(noMemory ? () => this.#answer(state, group, "failure") : () => this.#handleGroup(state, group));
  }

  #park(state: IopfDevice, fault: IopfFault): void {
    const noMemory = state.partial.length >= MAX_PARTIAL || this.kernel.allocationFails("iopf_fault");
    // The device is not told: its group may still succeed, and then it asks for this page once more.
    if (noMemory) this.#traceDropped(state.device, fault, "no memory");
    else state.park(fault);
  }

  async #handleGroup(state: IopfDevice, group: IopfGroup): Promise<void> {
    const { trace } = this.kernel;
    let code: IopfResponseCode = "success";
    for (const fault of group.faults) {
      code = await this.handle(state.device, fault);
      const { pasid, address, perm } = fault;
      if (trace.enabled) trace.emit("iopf:handled", { device: state.device.name, pasid, address, access: perm, code });
      if (code !== "success") break;
    }
    await this.#answer(state, group, code);
  }

  /** One response for the whole group, with the last request's identity. */
  async #answer(state: IopfDevice, group: IopfGroup, code: IopfResponseCode): Promise<void> {
    if (group.answered) return;
    group.answered = true;
    state.pending.delete(group);
    const { device } = state;
    const { pasid, grpid, responseNeedsPasid } = group.last;
    const { trace } = this.kernel;
    if (trace.enabled) trace.emit("iopf:answered", { device: device.name, pasid, grpid, code });
    const response = { pasid, grpid, code, responseNeedsPasid };
    await unfailing(this.kernel, `${device.name}: page response for group ${grpid}`, () =>
      device.iommu?.ops.pageResponse?.(device, response),
    );
  }

  discardPartial(devices: Iterable<Device>): void {
    if (this.variants.has("S-14")) return;
    for (const device of devices) {
      const state = this.#devices.get(device);
      if (state) this.#drop(state, "queue overflow");
    }
  }

  /** The PASID is being given up: requests of groups that were never closed would meet the next process with it. */
  discardPasid(device: Device, pasid: number): void {
    const state = this.#devices.get(device);
    if (state) this.#drop(state, "PASID released", pasid);
  }

  #drop(state: IopfDevice, reason: string, pasid?: number): void {
    for (const fault of state.discard((fault) => pasid === undefined || fault.pasid === pasid)) {
      this.#traceDropped(state.device, fault, reason);
    }
  }

  #traceDropped(device: Device, { pasid, grpid }: IopfFault, reason: string): void {
    const { trace } = this.kernel;
    if (trace.enabled) trace.emit("iopf:dropped", { device: device.name, pasid, grpid, reason });
  }

  registerFlush(device: Device, flush: () => Promise<void>): void {
    this.#flushes.set(device, flush);
  }

  /** iopf_queue_flush_dev: first the hardware queue into the work queue, then the work queue (E9). Hold no lock that a worker takes. */
  async flush(device: Device): Promise<void> {
    await unfailing(this.kernel, `${device.name}: flush of the fault queue`, () => this.#flushes.get(device)?.());
    await this.#devices.get(device)?.queue.flush();
  }

  /** Groups that a device has begun and not finished. */
  get partials(): number {
    let count = 0;
    for (const { partial } of this.#devices.values()) count += partial.length;
    return count;
  }

  #queueOf(device: Device): WorkQueue {
    const { iommu } = device;
    const existing = this.#queues.get(iommu);
    if (existing) return existing;
    const queue = new WorkQueue(this.kernel.scheduler, `iopf_queue/${iommu?.name ?? "none"}`, MAX_ACTIVE);
    this.#queues.set(iommu, queue);
    return queue;
  }
}

/** PASID stop marker: L = 1, R = W = 0. IOMMU drivers discard it; it is never answered (E11). */
function isStopMarker({ last, perm }: IopfFault): boolean {
  return last && (perm & (FaultPerm.READ | FaultPerm.WRITE | FaultPerm.EXEC)) === 0;
}
