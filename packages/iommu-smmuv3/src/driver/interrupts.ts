/** The chip's interrupts (arm_smmu_setup_irqs): by message when it has any, by wires otherwise; and the global errors. */
import type { AnyRegister, InterruptHandler, MsiVector } from "@iommukit/core";
import {
  EVENTQ_IRQ_CFG0,
  EVENTQ_IRQ_CFG1,
  EVENTQ_IRQ_CFG2,
  GERROR,
  GERROR_IRQ_CFG0,
  GERROR_IRQ_CFG1,
  GERROR_IRQ_CFG2,
  GERRORN,
  PRIQ_IRQ_CFG0,
  PRIQ_IRQ_CFG1,
  PRIQ_IRQ_CFG2,
} from "../spec/registers.js";
import type { CommandQueue } from "./command-queue.js";
import type { DriverContext } from "./driver-context.js";
import type { Smmuv3Features } from "./probe.js";

interface Source {
  /** Name of the wire. */
  readonly line: string;
  readonly handler: InterruptHandler;
  readonly message: readonly [AnyRegister, AnyRegister, AnyRegister];
}

/** Memory type of a message: Device-nGnRE (Linux: ARM_SMMU_MEMATTR_DEVICE_nGnRE). */
const DEVICE_nGnRE = 1;

const GERROR_TEXT: readonly (readonly [keyof typeof GERRORN & string, string])[] = [
  ["MSI_GERROR_ABT_ERR", "GERROR MSI write aborted"],
  ["MSI_PRIQ_ABT_ERR", "PRIQ MSI write aborted"],
  ["MSI_EVENTQ_ABT_ERR", "EVTQ MSI write aborted"],
  ["MSI_CMDQ_ABT_ERR", "CMDQ MSI write aborted"],
  ["PRIQ_ABT_ERR", "PRIQ write aborted -- events may have been lost"],
  ["EVENTQ_ABT_ERR", "EVTQ write aborted -- events may have been lost"],
];

export class Interrupts {
  readonly #sources: Source[];
  readonly #byMessage: boolean;
  readonly #vectors: MsiVector[] = [];

  constructor(
    private readonly context: DriverContext,
    features: Smmuv3Features,
    private readonly commands: CommandQueue,
    handlers: { readonly eventq: InterruptHandler; readonly priq: InterruptHandler | undefined },
  ) {
    this.#byMessage = features.msi && (context.options.messageInterrupts ?? true);
    this.#sources = [
      { line: "gerror", handler: this.globalError, message: [GERROR_IRQ_CFG0, GERROR_IRQ_CFG1, GERROR_IRQ_CFG2] },
      { line: "eventq", handler: handlers.eventq, message: [EVENTQ_IRQ_CFG0, EVENTQ_IRQ_CFG1, EVENTQ_IRQ_CFG2] },
    ];
    if (handlers.priq) {
      this.#sources.push({
        line: "priq",
        handler: handlers.priq,
        message: [PRIQ_IRQ_CFG0, PRIQ_IRQ_CFG1, PRIQ_IRQ_CFG2],
      });
    }
  }

  /** While IRQ_CTRL disables them. */
  setUp(): void {
    const { interrupts, mmio, name } = this.context;
    for (const { line, handler, message } of this.#sources) {
      // A message of 0 is none: the wire is used.
      mmio.write64(message[0].offset, 0n);
      if (!this.#byMessage) {
        interrupts.requestWire(`${name}.${line}`, handler);
        continue;
      }
      const vector = interrupts.allocateMessage(handler);
      this.#vectors.push(vector);
      mmio.write64(message[0].offset, BigInt(vector.address));
      mmio.write32(message[1].offset, vector.data);
      mmio.write32(message[2].offset, DEVICE_nGnRE);
    }
  }

  tearDown(): void {
    if (!this.#byMessage)
      for (const { line } of this.#sources) this.context.interrupts.freeWire(`${this.context.name}.${line}`);
    for (const vector of this.#vectors.splice(0)) vector.free();
  }

  /** arm_smmu_gerror_handler. In interrupt context. */
  readonly globalError = (): void => {
    const { mmio } = this.context;
    const now = mmio.read32(GERROR.offset);
    const active = Int32Array.of(now ^ mmio.read32(GERRORN.offset));
    if (active[0] === 0) return;
    const bits = (active[0] >>> 0).toString(16).padStart(8, "0");
    this.context.print(`unexpected global error reported (0x${bits}), this could be serious`);
    if (GERROR.SFM_ERR.get(active)) this.context.print("device has entered Service Failure Mode!");
    for (const [field, text] of GERROR_TEXT) if (GERROR.field(field).get(active)) this.context.print(text);
    if (GERROR.CMDQ_ERR.get(active)) this.commands.skipError();
    mmio.write32(GERRORN.offset, now);
  };
}
