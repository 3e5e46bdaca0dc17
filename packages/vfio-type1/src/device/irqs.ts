/** Interrupts of a device, and the request that it be given back. */
import type { EventFd } from "@iommukit/core";
import type { VfioDevice } from "./vfio-device.js";

export class DeviceIrqs {
  #request: EventFd | undefined;

  constructor(readonly vfioDevice: VfioDevice) {}

  /** Asks the program to let go of the device (VFIO_PCI_REQ_IRQ_INDEX). */
  request(): void {
    this.#request?.signal();
  }

  async disableAll(): Promise<void> {
    this.#request = undefined;
  }
}
