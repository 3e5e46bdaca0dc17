/** The interrupt controller of the board: wires by name, message interrupts by address and data. */
import { token } from "../platform/token.js";
import { IommuError } from "./errno.js";

/** Runs in interrupt context: must not sleep. Wake a thread or queue work for the rest. */
export type InterruptHandler = () => void;

/** A write of `data` to physical address `address` is the interrupt. */
export interface MsiVector {
  readonly address: number;
  readonly data: number;
  free(): void;
}

/** What drivers request their interrupts from. */
export interface InterruptController {
  /** Handles the rising edge of a wire. @throws IommuError EBUSY when the wire has a handler */
  requestWire(line: string, handler: InterruptHandler): void;
  freeWire(line: string): void;
  setWire(line: string, level: boolean): void;
  /** Allocates a vector: a write of `data` to `address` calls the handler. */
  allocateMessage(handler: InterruptHandler): MsiVector;
  /**
   * Vectors for multi-message MSI: one address, consecutive data, the first a multiple of the count rounded up to a power
   * of two, because the function puts the vector's number into the low bits.
   */
  allocateMessages(handlers: readonly InterruptHandler[]): readonly MsiVector[];
  /** False when nobody listens to that message. */
  deliver(address: number, data: number): boolean;
}
export const InterruptController = token<InterruptController>("InterruptController");

/** Where messages go: the page of x86's local APICs or of an Arm GIC's ITS. */
export const DOORBELL_BASE = 0xfee0_0000;

/** Bytes from DOORBELL_BASE on. */
export const DOORBELL_SIZE = 0x10_0000;

/** Vectors below are the processor's exceptions. */
const FIRST_VECTOR = 0x20;

/** The board's InterruptController. */
export class BoardInterrupts implements InterruptController {
  /** @param later calls back when a signal has reached the processor; absent: at once, inside of the signal */
  constructor(private readonly later: (callback: () => void) => void = (callback) => callback()) {}

  readonly #wires = new Map<string, InterruptHandler>();
  readonly #levels = new Map<string, boolean>();
  readonly #messages = new Map<number, InterruptHandler>();

  requestWire(line: string, handler: InterruptHandler): void {
    if (this.#wires.has(line)) throw new IommuError("EBUSY", `interrupt ${line} already has a handler`);
    this.#wires.set(line, handler);
  }

  freeWire(line: string): void {
    this.#wires.delete(line);
  }

  setWire(line: string, level: boolean): void {
    const before = this.#levels.get(line) ?? false;
    if (level === before) return;
    this.#levels.set(line, level);
    // An edge that nobody has asked for is lost.
    if (level && this.#wires.has(line)) this.later(() => this.#wires.get(line)?.());
  }

  allocateMessage(handler: InterruptHandler): MsiVector {
    return this.allocateMessages([handler])[0];
  }

  allocateMessages(handlers: readonly InterruptHandler[]): readonly MsiVector[] {
    const align = 2 ** Math.ceil(Math.log2(Math.max(1, handlers.length)));
    let first = Math.ceil(FIRST_VECTOR / align) * align;
    while (handlers.some((_, index) => this.#messages.has(first + index))) first += align;
    return handlers.map((handler, index) => {
      const data = first + index;
      this.#messages.set(data, handler);
      return { address: DOORBELL_BASE, data, free: () => this.#messages.delete(data) };
    });
  }

  deliver(address: number, data: number): boolean {
    if (address < DOORBELL_BASE || address >= DOORBELL_BASE + DOORBELL_SIZE) return false;
    this.later(() => this.#messages.get(data)?.());
    return this.#messages.has(data);
  }
}
