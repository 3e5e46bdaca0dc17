/** One event interrupt of the unit: control, data and address registers (VT-d 11.4.7.2 ff.), and its handler on the board. */
import { hiOf, type InterruptHandler, loOf, type MsiVector } from "@iommukit/core";
import type { EventRegisters } from "../spec/registers.js";
import type { Unit } from "./unit.js";

export class EventInterrupt {
  #vector: MsiVector | undefined;

  constructor(
    private readonly unit: Unit,
    private readonly registers: EventRegisters,
  ) {}

  /** Routes the event to `handler` and unmasks it; an event that is pending already is delivered at once. */
  request(handler: InterruptHandler): void {
    const { mmio, interrupts } = this.unit;
    const vector = interrupts.allocateMessage(handler);
    this.#vector = vector;
    mmio.write32(this.registers.DATA.offset, vector.data);
    mmio.write32(this.registers.ADDR.offset, loOf(vector.address) >>> 0);
    mmio.write32(this.registers.UADDR.offset, hiOf(vector.address) >>> 0);
    mmio.write32(this.registers.CTL.offset, 0);
  }

  free(): void {
    if (!this.#vector) return;
    this.unit.mmio.write32(this.registers.CTL.offset, this.registers.CTL.IM.lowMask >>> 0);
    this.#vector.free();
    this.#vector = undefined;
  }
}
