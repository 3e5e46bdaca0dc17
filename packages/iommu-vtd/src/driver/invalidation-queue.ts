/**
 * The invalidation queue from software's side (VT-d 6.5.2; qi_submit_sync of drivers/iommu/intel/dmar.c): a submission is its
 * descriptors and a wait descriptor that writes a status word; errors of the queue are cleared by whoever waits.
 */
import { after, IommuError, type MaySleep } from "@iommukit/core";
import { DESCRIPTOR_SHIFT, WIDE_DESCRIPTOR_SHIFT } from "../spec/invalidation.js";
import { FSTS, IQA, IQER, IQH, IQT } from "../spec/registers.js";
import { type Descriptor, fence, quadWords, waitWithStatus } from "./descriptors.js";
import type { GlobalCommand } from "./global-command.js";
import { printQueueFault } from "./queue-fault.js";
import type { Unit } from "./unit.js";

/** Slots, whatever their width. */
export const QI_LENGTH = 256;
/** Descriptors of one submission: a slot is the wait's, and one stays empty so that head and tail differ. */
const MAX_DESCRIPTORS = QI_LENGTH - 2;
/** Status words of slots. */
const Status = { FREE: 0, IN_USE: 1, DONE: 2, ABORT: 3 } as const;
/** Polling starts at 1 µs and slows down with the time waited: device-TLBs may take a minute. */
const POLL_NS = 1_000;
const POLL_SLOWDOWN = 8;
/** How often a submission that a device let time out is tried. */
const MAX_TRIES = 3;

interface Submission {
  /** Slots of the first descriptor and of the wait. */
  readonly first: number;
  readonly wait: number;
  /** A descriptor of it was refused. */
  refused: boolean;
}

export class InvalidationQueue {
  readonly #shift: number;
  #queue = 0;
  #status = 0;
  /** Slot that is filled next, oldest slot in use, number of free slots. */
  #head = 0;
  #tail = 0;
  #free = QI_LENGTH;
  readonly #pending = new Set<Submission>();
  /** The wait descriptor of each slot, made when it is first used. */
  readonly #waits: Descriptor[] = [];

  /** @param isPresent whether a device with that requester id is there; what times out without one is not repeated (L-24) */
  constructor(
    private readonly unit: Unit,
    private readonly command: GlobalCommand,
    private readonly isPresent: (rid: number) => boolean,
  ) {
    this.#shift = unit.features.scalable ? WIDE_DESCRIPTOR_SHIFT : DESCRIPTOR_SHIFT;
  }

  async enable(): Promise<void> {
    const { mmio, pages, name, features } = this.unit;
    const bytes = QI_LENGTH << this.#shift;
    this.#waits.length = 0;
    this.#queue = pages.alloc(bytes >> 12, `${name} invalidation queue`);
    this.#status = pages.alloc(1, `${name} invalidation queue status`);
    mmio.write64(IQT.offset, 0n);
    const words = IQA.encode({ IQA: this.#queue, QS: features.scalable ? 1 : 0, DW: features.scalable ? 1 : 0 });
    mmio.write64(IQA.offset, quadWords(Int32Array.of(words[0], words[1], 0, 0))[0]);
    await this.command.enable("QIE");
  }

  /** A queue may be switched off when it is empty and ended with a wait: one that had no descriptor yet has none (6.5.2). */
  async disable(): Promise<void> {
    if (!this.command.isSet("QIES")) return;
    await this.submit([]);
    await this.command.disable("QIE");
  }

  /** The unit does not use it any more. */
  free(): void {
    for (const pa of [this.#queue, this.#status]) if (pa !== 0) this.unit.pages.free(pa);
    this.#queue = 0;
    this.#status = 0;
  }

  /**
   * Queues the descriptors and returns when the unit is done with them; what the queue cannot hold follows when it is.
   * @param drain the wait drains page requests too (PD)
   * @returns a promise that rejects with IommuError EINVAL when the unit refused a descriptor; the rest has been carried out
   */
  submit(descriptors: readonly Descriptor[], drain = false, tries = 1): MaySleep {
    if (descriptors.length > MAX_DESCRIPTORS)
      return after(this.submit(descriptors.slice(0, MAX_DESCRIPTORS), drain), () =>
        this.submit(descriptors.slice(MAX_DESCRIPTORS), drain),
      );
    const slots = descriptors.length + QI_LENGTH - MAX_DESCRIPTORS;
    return after(this.#free < slots ? this.#makeRoom(slots) : undefined, () => {
      const submission = this.#enqueue(descriptors, drain);
      if (this.#statusOf(submission.wait) !== Status.DONE) return this.#finish(submission, descriptors, drain, tries);
      return this.#reclaim(submission);
    });
  }

  async #makeRoom(slots: number): Promise<void> {
    while (this.#free < slots) await this.unit.scheduler.sleep(POLL_NS);
  }

  /** What is not done at once: waits, and tries again when a device has let it time out. */
  async #finish(submission: Submission, descriptors: readonly Descriptor[], drain: boolean, tries: number) {
    const outcome = await this.#complete(submission);
    if (submission.refused)
      throw new IommuError("EINVAL", `${this.unit.dmar}: the unit refused one of ${descriptors.length} descriptors`);
    if (outcome === "done" || outcome === "gone") return;
    if (tries < MAX_TRIES || this.unit.variants.has("L-24")) await this.submit(descriptors, drain, tries + 1);
  }

  #enqueue(descriptors: readonly Descriptor[], drain: boolean): Submission {
    const first = this.#head;
    const wait = (first + descriptors.length) % QI_LENGTH;
    for (let i = 0; i < descriptors.length; i++) this.#put((first + i) % QI_LENGTH, descriptors[i]);
    this.#put(wait, drain ? this.#newWait(wait, true) : this.#wait(wait));
    this.#head = (wait + 1) % QI_LENGTH;
    this.#free -= descriptors.length + 1;
    this.unit.mmio.write32(IQT.offset, this.#head << this.#shift);
    return { first, wait, refused: false };
  }

  #newWait(slot: number, drain: boolean): Descriptor {
    return waitWithStatus({ address: this.#statusAt(slot), data: Status.DONE, drain });
  }

  #wait(slot: number): Descriptor {
    this.#waits[slot] ??= this.#newWait(slot, false);
    return this.#waits[slot];
  }

  #put(slot: number, descriptor: Descriptor): void {
    const { memory } = this.unit;
    const at = this.#queue + (slot << this.#shift);
    memory.store64(at, descriptor[1], descriptor[0]);
    memory.store64(at + 8, descriptor[3], descriptor[2]);
    if (this.#shift === WIDE_DESCRIPTOR_SHIFT) {
      memory.store64(at + 16, 0, 0);
      memory.store64(at + 24, 0, 0);
    }
    memory.store32(this.#statusAt(slot), Status.IN_USE);
  }

  /** "gone": timed out, and the device is not there any more. */
  async #complete(submission: Submission): Promise<"done" | "aborted" | "gone"> {
    const { scheduler } = this.unit;
    const start = scheduler.now;
    this.#pending.add(submission);
    let gone = false;
    for (;;) {
      const status = this.#statusOf(submission.wait);
      if (status === Status.DONE || status === Status.ABORT) {
        this.#reclaim(submission);
        return status === Status.DONE ? "done" : gone ? "gone" : "aborted";
      }
      const timedOut = this.#checkFault();
      if (timedOut !== undefined) gone = timedOut !== 0 && !this.isPresent(timedOut) && !this.unit.variants.has("L-24");
      else await scheduler.sleep(Math.max(POLL_NS, (scheduler.now - start) / POLL_SLOWDOWN));
    }
  }

  /** Handles and clears the queue's errors. @returns source-id of the device that timed out; undefined when none did */
  #checkFault(): number | undefined {
    const { mmio } = this.unit;
    const fsts = mmio.read32(FSTS.offset);
    const errors = fsts & (FSTS.IQE.lowMask | FSTS.ITE.lowMask | FSTS.ICE.lowMask);
    if (errors === 0) return undefined;
    const iqer = mmio.read64(IQER.offset);
    const head = mmio.read32(IQH.offset) >>> this.#shift;
    printQueueFault(this.unit, errors, iqer, this.#read(head), this.#read((head + QI_LENGTH - 1) % QI_LENGTH));
    if (errors & FSTS.IQE.lowMask) this.#replace(head);
    if (errors & FSTS.ITE.lowMask) this.#abort(head);
    mmio.write32(FSTS.offset, errors);
    if ((errors & FSTS.ITE.lowMask) === 0) return undefined;
    return IQER.ITESID.get(Int32Array.of(Number(iqer & 0xffff_ffffn) | 0, Number(iqer >> 32n) | 0));
  }

  /** IQE: the head stands at a descriptor that the unit refuses; a wait that does nothing takes its place. */
  #replace(head: number): void {
    const owner = [...this.#pending].find(({ first, wait }) => distance(first, head) <= distance(first, wait));
    if (owner) owner.refused = true;
    const isWait = owner?.wait === head;
    this.#put(head, isWait ? this.#wait(head) : fence());
  }

  /** ITE: waits that the unit has fetched and not answered will never be answered. */
  #abort(head: number): void {
    const { memory } = this.unit;
    const fetched = head === this.#head ? QI_LENGTH - this.#free : distance(this.#tail, head);
    for (const { wait } of this.#pending) {
      const status = this.#statusOf(wait);
      if (status === Status.IN_USE && distance(this.#tail, wait) < fetched)
        memory.store32(this.#statusAt(wait), Status.ABORT);
    }
  }

  #reclaim(submission: Submission): undefined {
    const { memory } = this.unit;
    this.#pending.delete(submission);
    for (let slot = submission.first; slot !== submission.wait; slot = (slot + 1) % QI_LENGTH)
      memory.store32(this.#statusAt(slot), Status.DONE);
    while (this.#free < QI_LENGTH && this.#statusOf(this.#tail) >= Status.DONE && !this.#isPendingWait(this.#tail)) {
      memory.store32(this.#statusAt(this.#tail), Status.FREE);
      this.#tail = (this.#tail + 1) % QI_LENGTH;
      this.#free++;
    }
  }

  /** A wait that is answered, but whose submitter has not looked yet. */
  #isPendingWait(slot: number): boolean {
    for (const { wait } of this.#pending) if (wait === slot) return true;
    return false;
  }

  #read(slot: number): Descriptor {
    const { memory } = this.unit;
    const at = this.#queue + (slot << this.#shift);
    return Int32Array.of(memory.load32(at), memory.load32(at + 4), memory.load32(at + 8), memory.load32(at + 12));
  }

  #statusOf(slot: number): number {
    return this.unit.memory.load32(this.#statusAt(slot));
  }

  #statusAt(slot: number): number {
    return this.#status + slot * 4;
  }
}

/** Slots from `from` forward to `to`. */
function distance(from: number, to: number): number {
  return (to - from + QI_LENGTH) % QI_LENGTH;
}
