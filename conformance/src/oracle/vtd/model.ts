/** The model of the unit that QEMU has: same registers, same RAM, asked for what the device's request would do. */
import {
  Access,
  bareBoard,
  hi32,
  lo32,
  NO_PASID,
  physical,
  SlabMemory,
  Translation,
  TranslationStatus,
} from "@iommukit/core";
import { FRCD, frcdRegisters, qemu11Q35, VtdHardware } from "@iommukit/iommu-vtd";
import { RAM_SIZE, RID } from "./board.js";

/** A paging entry that the walk read, with the value before any bit was set in it. */
export interface EntryRead {
  readonly address: number;
  readonly level: number;
  readonly value: bigint;
}

/** What a request did. */
export interface Outcome {
  /** Fault reason that was met; 0 when the request went through. */
  readonly reason: number;
  /** The two halves of the fault record; zero when nothing was recorded. */
  readonly record: readonly [lo: bigint, hi: bigint];
  /** Physical address that the request reached; -1 when it was blocked. */
  readonly pa: number;
  /** In the order of the walk. */
  readonly reads: readonly EntryRead[];
}

export class Model {
  readonly memory = new SlabMemory([{ base: 0, size: RAM_SIZE }]);
  readonly chip: VtdHardware;
  readonly frcd: number;
  readonly #out = new Translation();
  #reason = 0;
  #reads: EntryRead[] = [];

  /** @param cap,ecap what QEMU's registers say, with the features that it has and does not report */
  constructor(cap: bigint, ecap: bigint) {
    const board = bareBoard(this.memory);
    const { trace } = board;
    this.chip = new VtdHardware(board, { name: "vtd", preset: { ...qemu11Q35, cap, ecap } });
    this.frcd = frcdRegisters(this.chip.capabilities.cap.FRO, 1)[0].LO.offset;
    trace.on("fault:dropped", ({ fault }) => {
      this.#reason = Number.parseInt(fault, 16);
    });
    trace.on("table:read", ({ table, address, value }) => {
      const level = /^[FS]S L(\d)$/.exec(table)?.[1];
      if (level !== undefined) this.#reads.push({ address, level: Number(level), value });
    });
  }

  store(pa: number, value: bigint): void {
    this.memory.store64(pa, hi32(value), lo32(value));
  }

  request(iova: bigint, write: boolean): Outcome {
    const { chip } = this;
    this.#reason = 0;
    this.#reads = [];
    const status = chip.translate(RID, NO_PASID, hi32(iova), lo32(iova), write ? Access.WRITE : Access.READ, this.#out);
    const record = [chip.read64(this.frcd), chip.read64(this.frcd + 8)] as const;
    const reads = this.#reads;
    if (status === TranslationStatus.OK)
      return { reason: 0, record: [0n, 0n], pa: physical(this.#out.hi, this.#out.lo), reads };
    const recorded = record[1] >> 63n === 1n;
    if (recorded) chip.write32(this.frcd + FRCD.bytes - 4, 0x8000_0000);
    const reason = recorded ? Number((record[1] >> 32n) & 0xffn) : this.#reason;
    return { reason, record: recorded ? record : [0n, 0n], pa: -1, reads };
  }
}
