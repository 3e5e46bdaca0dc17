/** Interrupts and global errors: wires that pulse, messages, and GERROR's toggles. IHI 0070 3.18, 7.5. */
import type { RegisterFile } from "@iommukit/core";
import * as r from "../spec/registers.js";
import type { ChipContext } from "./chip-context.js";

export type InterruptSource = "gerror" | "eventq" | "priq";

const CONFIG = {
  gerror: {
    enable: r.IRQ_CTRL.GERROR_IRQEN,
    address: r.GERROR_IRQ_CFG0,
    data: r.GERROR_IRQ_CFG1,
    abort: r.GERROR.MSI_GERROR_ABT_ERR,
  },
  eventq: {
    enable: r.IRQ_CTRL.EVENTQ_IRQEN,
    address: r.EVENTQ_IRQ_CFG0,
    data: r.EVENTQ_IRQ_CFG1,
    abort: r.GERROR.MSI_EVENTQ_ABT_ERR,
  },
  priq: {
    enable: r.IRQ_CTRL.PRIQ_IRQEN,
    address: r.PRIQ_IRQ_CFG0,
    data: r.PRIQ_IRQ_CFG1,
    abort: r.GERROR.MSI_PRIQ_ABT_ERR,
  },
} as const;

export class Interrupts {
  constructor(
    private readonly chip: ChipContext,
    private readonly registers: RegisterFile,
  ) {}

  /** Signals a source that IRQ_CTRL enables: its wire, and its message when an address is configured. */
  raise(source: InterruptSource): void {
    const { registers } = this;
    const { enable, address, data, abort } = CONFIG[source];
    if ((registers.words[r.IRQ_CTRL.index] & enable.lowMask) === 0) return;
    this.pulse(source);
    const target = address.ADDR.get(registers.words, address.index);
    if (this.chip.features.msi && target !== 0 && !this.message(target, registers.get(data) >>> 0))
      this.activate(abort.lowMask);
  }

  /** A wired interrupt or event output: an edge. */
  pulse(line: string): void {
    const { name, ports } = this.chip;
    if (ports.trace.wants("irq:raised")) ports.trace.emit("irq:raised", { unit: name, source: line });
    ports.wire(line, true);
    ports.wire(line, false);
  }

  /** A 4-byte write of the chip's own: to memory that software polls or to an interrupt controller. False: it aborted. */
  message(address: number, data: number): boolean {
    const { memory } = this.chip.ports;
    const target = address % this.chip.features.oasSize;
    return memory.store32(target, data | 0) || this.chip.ports.message(target, data);
  }

  /** Toggles an error flag unless it is active already. */
  activate(flag: number): void {
    if (this.active(flag)) return;
    this.registers.words[r.GERROR.index] ^= flag;
    if (flag !== r.GERROR.MSI_GERROR_ABT_ERR.lowMask) this.raise("gerror");
  }

  active(flag: number): boolean {
    const { words } = this.registers;
    return ((words[r.GERROR.index] ^ words[r.GERRORN.index]) & flag) !== 0;
  }
}
