/** Who is bound to what, as plain maps: the PASIDs, and what bind and unbind answer, of the 2018 series and of mainline. */
import type { Errno } from "@iommukit/core";

export type Flavour = "seed" | "mainline";

/** A process, as far as binding is concerned; mainline's outlives its exit while something is bound to it. */
export interface Bindable {
  readonly alive: boolean;
}

export class ReferenceBonds {
  readonly #pasids = new Map<Bindable, number>();
  /** By device: its users by process. No entry: SVA is not initialised there. */
  readonly #devices = new Map<number, Map<Bindable, number>>();

  constructor(readonly flavour: Flavour) {}

  /** What bonds and PASIDs there are. */
  inUse(): { bonds: number; pasids: number } {
    let bonds = 0;
    for (const users of this.#devices.values()) bonds += users.size;
    return { bonds, pasids: this.#pasids.size };
  }

  initialised(device: number): boolean {
    return this.#devices.has(device);
  }

  init(device: number): Errno | undefined {
    // Devices are always initialised with IOPF: the second fault handler is refused before SVA is.
    if (this.#devices.has(device)) return "EBUSY";
    this.#devices.set(device, new Map());
    return undefined;
  }

  shutdown(device: number): Errno | undefined {
    if (!this.#devices.delete(device)) return "ENODEV";
    this.#givePasidsBack();
    return undefined;
  }

  bind(device: number, process: Bindable): number | Errno {
    const users = this.#devices.get(device);
    if (!users) return "EINVAL";
    const bound = users.get(process) ?? 0;
    if (bound > 0 && this.flavour === "seed") return "EEXIST";
    users.set(process, bound + 1);
    const pasid = this.#pasids.get(process) ?? this.#lowestFree();
    this.#pasids.set(process, pasid);
    return pasid;
  }

  unbind(device: number, pasid: number): Errno | undefined {
    const users = this.#devices.get(device);
    if (!users) return "EINVAL";
    for (const [process, count] of users) {
      if (this.#pasids.get(process) !== pasid) continue;
      if (count > 1) users.set(process, count - 1);
      else users.delete(process);
      this.#givePasidsBack();
      return undefined;
    }
    return "ESRCH";
  }

  exit(process: Bindable): void {
    if (this.flavour === "seed") for (const users of this.#devices.values()) users.delete(process);
    this.#givePasidsBack();
  }

  bound(device: number, process: Bindable): boolean {
    return this.#devices.get(device)?.has(process) ?? false;
  }

  /** Whether the PASID is bound to the device. */
  has(device: number, pasid: number): boolean {
    for (const process of this.#devices.get(device)?.keys() ?? []) if (this.#pasids.get(process) === pasid) return true;
    return false;
  }

  pasidOf(process: Bindable): number | undefined {
    return this.#pasids.get(process);
  }

  pasids(): readonly number[] {
    return [...this.#pasids.values()];
  }

  #lowestFree(): number {
    const taken = new Set(this.#pasids.values());
    let pasid = 1;
    while (taken.has(pasid)) pasid++;
    return pasid;
  }

  #givePasidsBack(): void {
    for (const process of [...this.#pasids.keys()]) {
      const bound = [...this.#devices.values()].some((users) => users.has(process));
      if (!bound && (this.flavour === "seed" || !process.alive)) this.#pasids.delete(process);
    }
  }
}
