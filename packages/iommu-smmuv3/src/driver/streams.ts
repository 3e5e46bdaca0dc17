/** Which device a StreamID is. Whoever uses a device that it found here holds the lock, so that it is not released meanwhile (E15, L-6). */
import { type Device, IommuError, Mutex } from "@iommukit/core";
import type { DriverContext } from "./driver-context.js";
import type { Master } from "./master.js";

export class Streams {
  readonly #masters = new Map<number, Master>();
  readonly #mutex: Mutex;

  constructor(context: DriverContext) {
    this.#mutex = new Mutex(context.scheduler, context.trace, "smmu->streams_mutex");
  }

  /** @throws IommuError EBUSY a StreamID that another device has */
  async add(master: Master): Promise<void> {
    await this.#mutex.with(() => {
      const other = this.#masters.get(master.sid);
      if (other)
        throw new IommuError(
          "EBUSY",
          `${master.device.name}: StreamID 0x${master.sid.toString(16)} is ${other.device.name}'s`,
        );
      this.#masters.set(master.sid, master);
    });
  }

  async remove(master: Master): Promise<void> {
    await this.#mutex.with(() => {
      this.#masters.delete(master.sid);
    });
  }

  /** Calls back with the device of the stream, which stays while `body` runs. */
  with<T>(sid: number, body: (master: Master | undefined) => T): Promise<T> {
    return this.#mutex.with(() => body(this.#masters.get(sid)));
  }

  find(sid: number): Master | undefined {
    return this.#masters.get(sid);
  }

  *devices(): Iterable<Device> {
    for (const { device } of this.#masters.values()) yield device;
  }
}
