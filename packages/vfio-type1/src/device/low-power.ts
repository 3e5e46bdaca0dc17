/**
 * VFIO_DEVICE_FEATURE_LOW_POWER_*: the program lets its device sleep. Its BARs leave every address space. Any system call on the
 * descriptor wakes the device; with an eventfd that signals it and ends the sleep, else the device sleeps again afterwards. The
 * model has no power states: what the program sees of them is all there is.
 */
import { type EventFd, IommuError } from "@iommukit/core";

export class LowPower {
  #engaged = false;
  #wake: EventFd | undefined;

  constructor(
    private readonly device: string,
    private readonly unmapped: (body: () => Promise<void>) => Promise<void>,
  ) {}

  /** A BAR that a program has mapped is out of reach. */
  get engaged(): boolean {
    return this.#engaged;
  }

  /** vfio_pci_runtime_pm_entry. @throws IommuError EINVAL it sleeps already */
  async enter(wake?: EventFd): Promise<void> {
    await this.unmapped(async () => {
      if (this.#engaged) throw new IommuError("EINVAL", `${this.device} sleeps already`);
      this.#engaged = true;
      this.#wake = wake;
    });
  }

  exit(): void {
    this.#engaged = false;
    this.#wake = undefined;
  }

  /** vfio_pci_core_runtime_resume: the kernel needs the device for a system call. */
  used(): void {
    if (!this.#wake) return;
    this.#wake.signal();
    this.exit();
  }
}
