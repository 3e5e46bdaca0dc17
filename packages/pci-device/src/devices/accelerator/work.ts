/** A descriptor on its way through the accelerator, and the queue that it waits in. */
import { NO_PASID } from "@iommukit/core";
import { DESCRIPTOR } from "./descriptor.js";

export interface WorkItem {
  readonly queue: number;
  readonly pasid: number;
  readonly privileged: boolean;
  /** May wait for missing pages: the descriptor asks for it and the queue allows it. */
  readonly blockOnFault: boolean;
  readonly descriptor: DecodedDescriptor;
  /** Given up: writes no completion record. */
  aborted: boolean;
}

/** A descriptor with its addresses as bigint, decoded once. */
export interface DecodedDescriptor {
  readonly opcode: number;
  readonly completionAddress: bigint | undefined;
  readonly requestRecord: boolean;
  readonly requestInterrupt: boolean;
  readonly interruptHandle: number;
  readonly pasid: number;
  readonly privileged: boolean;
  readonly blockOnFault: boolean;
  readonly source: bigint;
  readonly destination: bigint;
  readonly size: number;
  readonly specific: bigint;
  readonly specific1: bigint;
  /** A reserved bit is set. */
  readonly malformed: boolean;
}

export function decodeDescriptor(bytes: Uint8Array): DecodedDescriptor {
  const words = new Int32Array(DESCRIPTOR.words);
  new Uint8Array(words.buffer).set(bytes.subarray(0, DESCRIPTOR.bytes));
  return {
    opcode: DESCRIPTOR.Opcode.get(words),
    completionAddress: DESCRIPTOR.CompletionRecordAddressValid.decode(words)
      ? DESCRIPTOR.CompletionRecordAddress.getBig(words)
      : undefined,
    requestRecord: DESCRIPTOR.RequestCompletionRecord.decode(words),
    requestInterrupt: DESCRIPTOR.RequestCompletionInterrupt.decode(words),
    interruptHandle: DESCRIPTOR.InterruptHandle.get(words),
    pasid: DESCRIPTOR.PASID.get(words),
    privileged: DESCRIPTOR.Privileged.decode(words),
    blockOnFault: DESCRIPTOR.BlockOnFault.decode(words),
    source: DESCRIPTOR.Source.getBig(words),
    destination: DESCRIPTOR.Destination.getBig(words),
    size: DESCRIPTOR.TransferSize.get(words),
    specific: DESCRIPTOR.OperationSpecific.getBig(words),
    specific1: DESCRIPTOR.OperationSpecific1.getBig(words),
    malformed: DESCRIPTOR.reservedViolated(words),
  };
}

export interface QueueSettings {
  readonly size: number;
  readonly threshold: number;
  readonly dedicated: boolean;
  readonly blockOnFault: boolean;
  /** NO_PASID, a dedicated queue's PASID, or undefined: each descriptor says. */
  readonly pasid: number | undefined;
  readonly privileged: boolean;
  readonly priority: number;
  /** Completion records go to memory of the requester itself, whatever the descriptor's PASID. */
  readonly untaggedCompletion: boolean;
}

export class WorkQueueUnit {
  enabled = false;
  readonly waiting: WorkItem[] = [];
  readonly running = new Set<WorkItem>();
  settings: QueueSettings = {
    size: 0,
    threshold: 0,
    dedicated: true,
    blockOnFault: false,
    pasid: NO_PASID,
    privileged: false,
    priority: 0,
    untaggedCompletion: false,
  };

  constructor(readonly index: number) {}

  /** A shared queue refuses from its threshold on, a dedicated one when it is full. */
  get full(): boolean {
    const { size, threshold, dedicated } = this.settings;
    return this.waiting.length >= (dedicated ? size : Math.min(threshold || size, size));
  }

  item(descriptor: DecodedDescriptor, pasid: number, privileged: boolean): WorkItem {
    const blockOnFault = descriptor.blockOnFault && this.settings.blockOnFault;
    return { queue: this.index, pasid, privileged, blockOnFault, descriptor, aborted: false };
  }

  abort(which: (item: WorkItem) => boolean): void {
    for (const item of [...this.waiting, ...this.running]) if (which(item)) item.aborted = true;
    const left = this.waiting.filter((item) => !item.aborted);
    this.waiting.splice(0, this.waiting.length, ...left);
  }
}
