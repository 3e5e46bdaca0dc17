/** The accelerator's engines: take descriptors from the queues, highest priority first, and run them to their completion. */
import { NO_PASID, type Scheduler, WaitQueue } from "@iommukit/core";
import { DmaStatus } from "../../dma-status.js";
import { COMPLETION_RECORD, CompletionStatus, DESCRIPTOR, Opcode } from "./descriptor.js";
import { type Completion, type Operations, success } from "./operations.js";
import { decodeDescriptor, type WorkItem, type WorkQueueUnit } from "./work.js";

export interface EnginePoolOptions {
  readonly name: string;
  readonly engines: number;
  readonly maxTransferSize: number;
  readonly maxBatchSize: number;
  readonly vectors: number;
}

/** Where errors go that no completion record can tell. */
export type ReportError = (error: number, item: WorkItem, address: bigint) => void;

export class EnginePool {
  #busy = 0;
  readonly #idle: WaitQueue;

  constructor(
    private readonly options: EnginePoolOptions,
    private readonly queues: readonly WorkQueueUnit[],
    private readonly operations: Operations,
    private readonly scheduler: Scheduler,
    private readonly interrupt: (vector: number) => void,
    private readonly report: ReportError,
  ) {
    this.#idle = new WaitQueue(scheduler, `descriptors of ${options.name}`);
  }

  /** There is work: starts an engine when one is free. */
  kick(): void {
    if (this.#busy >= this.options.engines || !this.queues.some(({ waiting }) => waiting.length > 0)) return;
    const engine = this.#busy++;
    this.scheduler.spawn(`${this.options.name} engine ${engine}`, () => this.#work());
  }

  async #work(): Promise<void> {
    for (let queue = this.#nextQueue(); queue; queue = this.#nextQueue()) {
      const item = queue.waiting.shift() as WorkItem;
      queue.running.add(item);
      await this.#complete(item, await this.#run(item));
      queue.running.delete(item);
      this.#idle.wakeAll();
    }
    this.#busy--;
  }

  #nextQueue(): WorkQueueUnit | undefined {
    const ready = this.queues.filter(({ waiting }) => waiting.length > 0);
    return ready.sort((a, b) => b.settings.priority - a.settings.priority || a.index - b.index)[0];
  }

  async #run(item: WorkItem): Promise<Completion> {
    const done = success();
    done.status = this.#check(item);
    if (done.status !== CompletionStatus.SUCCESS) return done;
    if (item.descriptor.opcode === Opcode.BATCH) return this.#batch(item);
    if (item.descriptor.opcode !== Opcode.DRAIN) return this.operations.run(item);
    const before = [...this.queues[item.queue].running].filter((other) => other !== item);
    await this.drained((other) => before.includes(other));
    return done;
  }

  #check({ descriptor }: WorkItem): number {
    const { opcode, size, completionAddress, interruptHandle, requestInterrupt } = descriptor;
    if (descriptor.malformed) return CompletionStatus.NONZERO_RESERVED;
    if (completionAddress !== undefined && completionAddress % 32n !== 0n)
      return CompletionStatus.COMPLETION_ADDRESS_ALIGNMENT;
    if (requestInterrupt && interruptHandle >= this.options.vectors) return CompletionStatus.INTERRUPT_HANDLE;
    if (descriptor.requestRecord && completionAddress === undefined) return CompletionStatus.INVALID_FLAGS;
    if (opcode === Opcode.BATCH) {
      if (size < 2 || size > this.options.maxBatchSize) return CompletionStatus.DESCRIPTOR_COUNT;
      return descriptor.source % 64n === 0n ? CompletionStatus.SUCCESS : CompletionStatus.LIST_ALIGNMENT;
    }
    return size > this.options.maxTransferSize ? CompletionStatus.TRANSFER_SIZE : CompletionStatus.SUCCESS;
  }

  /** The list is read with the batch's PASID; its descriptors run in order and complete each for itself. */
  async #batch(batch: WorkItem): Promise<Completion> {
    const done = success();
    const queue = this.queues[batch.queue];
    const bytes = new Uint8Array(DESCRIPTOR.bytes);
    for (; done.completed < batch.descriptor.size && !batch.aborted; done.completed++) {
      const address = batch.descriptor.source + BigInt(done.completed * DESCRIPTOR.bytes);
      const got = await this.operations.read(batch, address, bytes);
      if (got.status !== DmaStatus.OK) {
        done.status = CompletionStatus.BATCH_PAGE_FAULT;
        done.faultAddress = got.address;
        return done;
      }
      const item = queue.item(decodeDescriptor(bytes), batch.pasid, batch.privileged);
      queue.running.add(item);
      const nested = item.descriptor.opcode === Opcode.BATCH || item.descriptor.opcode === Opcode.DRAIN;
      const result = nested ? { ...success(), status: CompletionStatus.BAD_OPCODE } : await this.#run(item);
      await this.#complete(item, result);
      queue.running.delete(item);
      if (result.status !== CompletionStatus.SUCCESS && result.status !== CompletionStatus.SUCCESS_PREDICATE)
        done.status = CompletionStatus.BATCH_FAIL;
    }
    return done;
  }

  /** Completion record first, interrupt after it. What was aborted ends without a word. */
  async #complete(item: WorkItem, done: Completion): Promise<void> {
    if (item.aborted) return;
    const { completionAddress, requestRecord, requestInterrupt, interruptHandle } = item.descriptor;
    const failed = done.status !== CompletionStatus.SUCCESS;
    if (completionAddress !== undefined && completionAddress % 32n === 0n && (requestRecord || failed)) {
      const pasid = this.queues[item.queue].settings.untaggedCompletion ? NO_PASID : item.pasid;
      const put = await this.operations.write(item, completionAddress, recordBytes(done), pasid);
      if (put.status !== DmaStatus.OK && !item.aborted)
        this.report(CompletionStatus.COMPLETION_ADDRESS_TRANSLATION, item, put.address);
    } else if (failed) this.report(done.status, item, done.faultAddress ?? 0n);
    if (requestInterrupt && interruptHandle < this.options.vectors && !item.aborted) this.interrupt(interruptHandle);
  }

  /** Waits until no descriptor of that kind waits or runs. */
  drained(which: (item: WorkItem) => boolean): Promise<void> {
    return this.#idle.wait(
      () => !this.queues.some(({ waiting, running }) => waiting.some(which) || [...running].some(which)),
    );
  }

  /** Descriptors have gone without an engine: who waits for them looks again. */
  wake(): void {
    this.#idle.wakeAll();
  }
}

function recordBytes(done: Completion): Uint8Array {
  const words = COMPLETION_RECORD.encode({
    Status: done.status,
    FaultOnWrite: done.faultOnWrite,
    Result: done.result,
    FaultInfo: done.faultAddress === undefined ? 0 : 1,
    BytesCompleted: done.completed,
    FaultAddress: done.faultAddress ?? 0n,
    OperationResult: done.value,
  });
  return new Uint8Array(words.buffer);
}

/** PASID as SWERROR shows it. */
export function swerrorPasid(item: WorkItem): { readonly PASID: number; readonly PASIDValid: boolean } {
  return { PASID: item.pasid === NO_PASID ? 0 : item.pasid, PASIDValid: item.pasid !== NO_PASID };
}
