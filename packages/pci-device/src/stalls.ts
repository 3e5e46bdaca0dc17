/** Transactions that the IOMMU holds (SMMUv3's stall model): who waits for which, and what became of it. */
import { type Scheduler, WaitQueue } from "@iommukit/core";
import { DmaStatus } from "./dma-status.js";
import type { DmaTransfer } from "./dma-transfer.js";

export type StallAction = "retry" | "terminate" | "abort";

export class Stalls {
  readonly #resolutions = new Map<number, StallAction>();
  /** Stalls that nobody waits for any more. */
  readonly #abandoned = new Set<number>();
  readonly #callbacks = new Map<number, (action: StallAction) => void>();
  readonly #resolved: WaitQueue;

  constructor(scheduler: Scheduler, name: string) {
    this.#resolved = new WaitQueue(scheduler, `stalled DMA of ${name}`);
  }

  /** The IOMMU lets a transaction go on, or ends it. */
  resolve(stag: number, action: StallAction): void {
    if (this.#abandoned.delete(stag)) return;
    const callback = this.#callbacks.get(stag);
    if (callback) {
      this.#callbacks.delete(stag);
      callback(action);
      return;
    }
    this.#resolutions.set(stag, action);
    this.#resolved.wakeAll();
  }

  /** For those who cannot wait. */
  whenResolved(stag: number, callback: (action: StallAction) => void): void {
    this.#callbacks.set(stag, callback);
  }

  /** @returns OK: try again; ABORTED or FAULT: it was terminated or aborted */
  async wait(transfer: DmaTransfer): Promise<number> {
    const { stag } = transfer;
    await this.#resolved.wait(() => this.#resolutions.has(stag) || transfer.cancelled);
    const action = this.#resolutions.get(stag);
    if (!this.#resolutions.delete(stag)) this.#abandoned.add(stag);
    if (action === "retry") return DmaStatus.OK;
    return action === "terminate" ? DmaStatus.ABORTED : DmaStatus.FAULT;
  }

  /** Somebody was cancelled: let it see. */
  wake(): void {
    this.#resolved.wakeAll();
  }
}
