/** The INTx pin: level triggered, so VFIO masks it when it signals and the program unmasks it when it has served the device. */
import { type EventFd, type PciFunction, TYPE0_HEADER, writeField } from "@iommukit/core";

export class Intx {
  #trigger: EventFd | undefined;
  #enabled = false;
  #asserted = false;
  /** By VFIO after a signal, or by SET_IRQS. */
  #masked = false;
  /** By the program, with the virtual Interrupt Disable bit. */
  #disabled = false;
  #stopUnmask: (() => void) | undefined;

  constructor(private readonly pci: PciFunction) {
    pci.onIntx((asserted) => this.#level(asserted));
  }

  get enabled(): boolean {
    return this.#enabled;
  }

  get trigger(): EventFd | undefined {
    return this.#trigger;
  }

  set trigger(trigger: EventFd | undefined) {
    this.#trigger = trigger;
  }

  enable(trigger: EventFd | undefined): void {
    this.#trigger = trigger;
    this.#enabled = true;
    this.#masked = this.#disabled;
    this.#drive();
  }

  disable(): void {
    this.#stopUnmask?.();
    this.#stopUnmask = undefined;
    this.#trigger = undefined;
    this.#enabled = false;
    this.#masked = false;
  }

  mask(): void {
    this.#masked = true;
    this.#drive();
  }

  /** A pin that is still asserted signals again. */
  unmask(): void {
    this.#masked = this.#disabled;
    this.#drive();
  }

  /** Each signal of the eventfd unmasks; undefined ends that. */
  unmaskOn(trigger: EventFd | undefined): void {
    this.#stopUnmask?.();
    this.#stopUnmask = trigger?.onSignal(() => this.unmask());
  }

  /** The program wrote the Interrupt Disable bit. */
  setDisabled(disabled: boolean): void {
    this.#disabled = disabled;
    if (disabled) this.mask();
    else this.unmask();
  }

  #level(asserted: boolean): void {
    this.#asserted = asserted;
    this.#signal();
  }

  /** The device's own Interrupt Disable bit is VFIO's mask. */
  #drive(): void {
    writeField(this.pci, 0, TYPE0_HEADER.InterruptDisable, this.#masked ? 1 : 0);
    this.#signal();
  }

  #signal(): void {
    if (!this.#enabled || !this.#asserted || this.#masked) return;
    this.#masked = true;
    this.#trigger?.signal();
    writeField(this.pci, 0, TYPE0_HEADER.InterruptDisable, 1);
  }
}
