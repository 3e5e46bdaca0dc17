/** What is outstanding of one device: requests whose group is still open (`partial`), and groups without an answer. */
import type { Device } from "../iommu/device.js";
import type { WorkQueue } from "../kernel/work-queue.js";
import type { IopfFault } from "./fault.js";
import { IopfGroup } from "./group.js";

/** An index of page requests has 9 bits, a stall tag 16: a device with more groups open does not obey its specification. */
export const MAX_GROUPS = 0x1_0000;
/** Requests of open groups that are kept for one device. */
export const MAX_PARTIAL = 4096;

export class IopfDevice {
  readonly pending = new Set<IopfGroup>();
  #partial: IopfFault[] = [];

  constructor(
    readonly device: Device,
    readonly queue: WorkQueue,
  ) {}

  get partial(): readonly IopfFault[] {
    return this.#partial;
  }

  park(fault: IopfFault): void {
    this.#partial.push(fault);
  }

  /** The group that `last` closes: the parked requests with its index and PASID, then itself. */
  close(last: IopfFault): IopfGroup {
    const mine = (fault: IopfFault) => fault.grpid === last.grpid && fault.pasid === last.pasid;
    const group = new IopfGroup([...this.#partial.filter(mine), last]);
    if (group.faults.length > 1) this.#partial = this.#partial.filter((fault) => !mine(fault));
    return group;
  }

  /** @returns what was parked and matches; it is parked no more */
  discard(matches: (fault: IopfFault) => boolean): readonly IopfFault[] {
    const discarded = this.#partial.filter(matches);
    if (discarded.length > 0) this.#partial = this.#partial.filter((fault) => !matches(fault));
    return discarded;
  }
}
