/**
 * Both chips' queues as far as ATS invalidations go: a chip alone on its board, with one function that answers nothing, software
 * that queues invalidate requests and fences, and completions that come when a case says so.
 */
import { bareBoard, type InvalidateRequest, SlabMemory } from "@iommukit/core";
import {
  CMD_ATC_INV,
  CMD_SYNC,
  CMDQ_BASE,
  CMDQ_CONS,
  CMDQ_PROD,
  CR0,
  GERROR,
  OPCODE,
  Smmuv3Hardware,
} from "@iommukit/iommu-smmuv3";
import {
  DEVICE_TLB_INVALIDATE,
  DescriptorType,
  everything,
  FSTS,
  GCMD,
  INVALIDATION_WAIT,
  IQA,
  IQH,
  IQT,
  VtdHardware,
} from "@iommukit/iommu-vtd";

export const RID = 0x1234;
export const OTHER_RID = 0x9988;
const QUEUE = 0x10000;
const SLOT = 16;
/** Longer than either chip waits for a completion. Nanoseconds. */
const EVER = 100e9;

abstract class InvalidationQueue {
  /** Invalidate requests that the function has received. */
  readonly sent: InvalidateRequest[] = [];
  protected readonly memory = new SlabMemory([{ base: 0, size: 0x100_0000 }]);
  protected readonly board = bareBoard(this.memory, {
    requesters: {
      find: () => ({
        invalidate: (request) => void this.sent.push(request),
        pageResponse: () => {},
        stallResolved: () => {},
      }),
    },
  });
  /** Slots that software has written. */
  #written = 0;

  abstract readonly chip: Smmuv3Hardware | VtdHardware;
  /** The queue has stopped because a request timed out. */
  abstract readonly timedOut: boolean;
  /** Slots that the chip has taken. */
  abstract readonly taken: number;
  protected abstract readonly request: Int32Array;
  protected abstract readonly wait: Int32Array;
  protected abstract tail(slots: number): void;

  #put(words: Int32Array): void {
    this.memory.writeBytes(QUEUE + SLOT * this.#written++, new Uint8Array(words.buffer));
    this.tail(this.#written);
  }

  invalidate(): void {
    this.#put(this.request);
  }

  /** Waits for what was queued before. */
  fence(): void {
    this.#put(this.wait);
  }

  complete(rid: number, itags: readonly number[], count: number): void {
    const itagVector = itags.reduce((vector, itag) => vector | (1 << itag), 0);
    this.chip.invalidateCompletion({ rid, itagVector, count });
  }

  /** Lets all time limits pass. */
  expire(): Promise<void> {
    return this.board.scheduler.run(() => this.board.scheduler.sleep(EVER));
  }
}

class Smmuv3Queue extends InvalidationQueue {
  readonly chip = new Smmuv3Hardware(this.board, { name: "smmuv3", preset: "everything" });
  protected readonly request = CMD_ATC_INV.encode({ Opcode: OPCODE.ATC_INV, StreamID: RID, Size: 52 });
  protected readonly wait = CMD_SYNC.encode({ Opcode: OPCODE.SYNC });

  constructor() {
    super();
    this.chip.write64(CMDQ_BASE.offset, BigInt(QUEUE | 8));
    this.chip.write32(CR0.offset, CR0.CMDQEN.lowMask | CR0.SMMUEN.lowMask);
  }

  protected tail(slots: number): void {
    this.chip.write32(CMDQ_PROD.offset, slots);
  }

  get taken(): number {
    return CMDQ_CONS.RD.get(Int32Array.of(this.chip.read32(CMDQ_CONS.offset)));
  }

  get timedOut(): boolean {
    const reason = CMDQ_CONS.ERR.get(Int32Array.of(this.chip.read32(CMDQ_CONS.offset)));
    const active = (this.chip.read32(GERROR.offset) & GERROR.CMDQ_ERR.lowMask) !== 0;
    return active && CMDQ_CONS.ERR.nameOf(reason) === "CERROR_ATC_INV_SYNC";
  }
}

class VtdQueue extends InvalidationQueue {
  readonly chip = new VtdHardware(this.board, { name: "vtd", preset: everything });
  protected readonly request = DEVICE_TLB_INVALIDATE.encode({ TYPE: DescriptorType.DEVICE_TLB, SID: RID });
  protected readonly wait = INVALIDATION_WAIT.encode({ TYPE: DescriptorType.WAIT, IF: true });

  constructor() {
    super();
    this.chip.write64(IQA.offset, BigInt(QUEUE));
    this.chip.write32(GCMD.offset, GCMD.TE.lowMask | GCMD.QIE.lowMask);
  }

  protected tail(slots: number): void {
    this.chip.write64(IQT.offset, BigInt(slots * SLOT));
  }

  get taken(): number {
    return this.chip.read32(IQH.offset) / SLOT;
  }

  get timedOut(): boolean {
    return (this.chip.read32(FSTS.offset) & FSTS.ITE.lowMask) !== 0;
  }
}

export type { InvalidationQueue };

export function invalidationQueue(backend: string): InvalidationQueue {
  return backend === "vtd" ? new VtdQueue() : new Smmuv3Queue();
}
