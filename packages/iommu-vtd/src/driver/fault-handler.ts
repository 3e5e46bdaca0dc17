/**
 * The fault event interrupt (VT-d 7.2, 7.3; dmar_fault of drivers/iommu/intel/dmar.c): prints each record as Linux does and
 * gives the recording registers back. Left out: the kernel's rate limit of ten messages in five seconds.
 */
import { FRCD, faultReason } from "../spec/faults.js";
import { FE, FSTS } from "../spec/registers.js";
import { EventInterrupt } from "./event-interrupt.js";
import type { Unit } from "./unit.js";

/** Codes from here to 0x2f are of interrupt remapping. */
const INTERRUPT_FAULTS = 0x20;
const SCALABLE_FAULTS = 0x30;

/** One unit's. */
export class FaultHandler {
  readonly #interrupt: EventInterrupt;

  constructor(private readonly unit: Unit) {
    this.#interrupt = new EventInterrupt(unit, FE);
  }

  enable(): void {
    this.#interrupt.request(() => this.handle());
    this.handle();
  }

  disable(): void {
    this.#interrupt.free();
  }

  /** Runs in interrupt context. */
  handle(): void {
    const { mmio, kernel, features, options } = this.unit;
    // The n-th unit translates for segment n.
    const segment = options.segmentInMessages ? (options.index ?? 0) : undefined;
    const status = mmio.read32(FSTS.offset);
    if (status !== 0) kernel.printk(`DMAR: DRHD: handling fault status reg ${status.toString(16)}`);
    if ((status & FSTS.PPF.lowMask) === 0) return;
    const count = features.cap.NFR + 1;
    let index = (status & FSTS.FRI.lowMask) >>> FSTS.FRI.shift;
    for (;;) {
      const offset = features.cap.FRO * 16 + index * FRCD.bytes;
      const words = Int32Array.from({ length: FRCD.words }, (_, i) => mmio.read32(offset + i * 4) | 0);
      if (!FRCD.F.decode(words)) break;
      mmio.write32(offset + 12, FRCD.F.lowMask >>> 0);
      kernel.printk(faultLine(words, segment));
      index = (index + 1) % count;
    }
    mmio.write32(FSTS.offset, FSTS.PFO.lowMask);
  }
}

/** The message of one fault record; `segment` stands before the device where one is given. */
export function faultLine(words: Int32Array, segment?: number): string {
  const { FR, FI, SID, PP, PV, T1 } = FRCD.decode(words);
  const known = faultReason(FR);
  const text = known?.linux ? known.meaning : "Unknown";
  const reason = `[fault reason 0x${FR.toString(16).padStart(2, "0")}] ${text}`;
  const bus = segment === undefined ? "" : `${segment.toString(16).padStart(4, "0")}:`;
  const device = `${bus}${byte(SID >>> 8)}:${byte((SID >>> 3) & 0x1f)}.${SID & 7}`;
  const address = BigInt(FI);
  if (known?.linux && FR >= INTERRUPT_FAULTS && FR < SCALABLE_FAULTS) {
    return `DMAR: [INTR-REMAP] Request device [${device}] fault index 0x${(address >> 48n).toString(16)} ${reason}`;
  }
  const pasid = PP ? `PASID 0x${PV.toString(16)}` : "NO_PASID";
  return `DMAR: [${T1 ? "DMA Read" : "DMA Write"} ${pasid}] Request device [${device}] fault addr 0x${address.toString(16)} ${reason}`;
}

function byte(value: number): string {
  return value.toString(16).padStart(2, "0");
}
