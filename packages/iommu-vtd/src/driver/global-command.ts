/**
 * GCMD and GSTS (VT-d 11.4.4): one bit changes per write, the other enables are written as they stand, one-shot commands
 * as zero, and software waits for the status before it goes on. PMEN is of the same kind.
 */
import { type AnyRegister, type Field, IommuError, type MaySleep } from "@iommukit/core";
import { GCMD, GSTS, PMEN } from "../spec/registers.js";
import type { Unit } from "./unit.js";

/** Enables by their bit in GSTS; every other bit of GCMD is a one-shot command. */
const ENABLES = [GSTS.CFIS, GSTS.IRES, GSTS.QIES, GSTS.AFLS, GSTS.TES];
const ENABLE_MASK = ENABLES.reduce((mask, field) => mask | field.lowMask, 0);

/** The first pause between two looks; later ones are an eighth of what has been waited, so that giving up takes few. */
const POLL_NS = 100;
const POLL_SLOWDOWN = 8;
/** DMAR_OPERATION_TIMEOUT. */
const TIMEOUT_NS = 10_000_000_000;

export class GlobalCommand {
  constructor(private readonly unit: Unit) {}

  enable(bit: "TE" | "QIE"): Promise<void> {
    const status = bit === "TE" ? GSTS.TES : GSTS.QIES;
    return this.#write(GCMD[bit], true, status, true);
  }

  disable(bit: "TE" | "QIE"): Promise<void> {
    const status = bit === "TE" ? GSTS.TES : GSTS.QIES;
    return this.#write(GCMD[bit], false, status, false);
  }

  /** Tells the unit that RTADDR has a new value. */
  setRootTable(): Promise<void> {
    return this.#write(GCMD.SRTP, true, GSTS.RTPS, true);
  }

  /** Waits until earlier stores to the tables are visible to the unit; nothing to do without CAP.RWBF (H25). */
  flushWriteBuffer(): MaySleep {
    return this.unit.features.cap.RWBF ? this.#write(GCMD.WBF, true, GSTS.WBFS, false) : undefined;
  }

  /** With translation on, memory that firmware had protected would be kept from devices that are allowed to use it (11.4.8.1). */
  async disableProtectedMemory(): Promise<void> {
    const { mmio, features } = this.unit;
    if (!features.cap.PLMR && !features.cap.PHMR) return;
    mmio.write32(PMEN.offset, (mmio.read32(PMEN.offset) & ~PMEN.EPM.lowMask) >>> 0);
    await this.#await(PMEN, PMEN.PRS, false, "PMEN.EPM = 0");
  }

  isSet(status: "TES" | "QIES"): boolean {
    return (this.unit.mmio.read32(GSTS.offset) & GSTS[status].lowMask) !== 0;
  }

  async #write(command: Field, set: boolean, status: Field, expected: boolean): Promise<void> {
    const { mmio } = this.unit;
    const standing = mmio.read32(GSTS.offset) & ENABLE_MASK;
    mmio.write32(GCMD.offset, (set ? standing | command.lowMask : standing & ~command.lowMask) >>> 0);
    await this.#await(GSTS, status, expected, `GCMD.${command.name}`);
  }

  async #await(register: AnyRegister, status: Field, expected: boolean, after: string): Promise<void> {
    const { mmio, scheduler, dmar } = this.unit;
    const start = scheduler.now;
    while (((mmio.read32(register.offset) & status.lowMask) !== 0) !== expected) {
      if (scheduler.now - start >= TIMEOUT_NS)
        throw new IommuError(
          "ETIMEDOUT",
          `${dmar}: ${register.name}.${status.name} does not become ${expected ? 1 : 0} after ${after}`,
        );
      await scheduler.sleep(Math.max(POLL_NS, (scheduler.now - start) / POLL_SLOWDOWN));
    }
  }
}
