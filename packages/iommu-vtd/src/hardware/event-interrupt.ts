/** One of the unit's own interrupts: control register with mask and pending bit, message address and data (VT-d 5.1.6, 6.5.2.10, 7.3, 7.5). Never remapped. */
import type { ChipPorts, RegisterFile } from "@iommukit/core";
import type { EventRegisters } from "../spec/registers.js";

const TWO32 = 0x1_0000_0000;

export class EventInterrupt {
  /** @param line name of the wire that pulses with every message */
  constructor(
    private readonly unit: string,
    private readonly line: string,
    private readonly file: RegisterFile,
    private readonly registers: EventRegisters,
    private readonly ports: ChipPorts,
  ) {
    file.onWrite(registers.CTL, () => this.#trySend());
  }

  /** A condition that software has not been told of. */
  raise(): void {
    const { CTL } = this.registers;
    CTL.IP.setPair(this.file.words, CTL.index, 0, 1);
    this.#trySend();
  }

  /** Software has serviced every condition: a message that is still held is not needed any more. */
  serviced(): void {
    const { CTL } = this.registers;
    CTL.IP.setPair(this.file.words, CTL.index, 0, 0);
  }

  #trySend(): void {
    const { CTL, ADDR, UADDR, DATA } = this.registers;
    const { words } = this.file;
    if (CTL.IP.get(words, CTL.index) === 0 || CTL.IM.get(words, CTL.index) === 1) return;
    CTL.IP.setPair(words, CTL.index, 0, 0);
    if (this.ports.trace.enabled) this.ports.trace.emit("irq:raised", { unit: this.unit, source: this.line });
    this.ports.message(
      (this.file.get(UADDR) >>> 0) * TWO32 + (this.file.get(ADDR) >>> 0),
      DATA.IMD.get(words, DATA.index),
    );
    this.ports.wire(this.line, true);
    this.ports.wire(this.line, false);
  }
}
