/** Firmware's part: gives every BAR of a platform an address, below 4 GiB for 32-bit ones, above all RAM for the others. */
import { PAGE_SIZE, type PciBar, type SystemBus } from "@iommukit/core";

const LOW_BASE = 0xc000_0000;
const LOW_LIMIT = 0xfe00_0000;
const HIGH_BASE = 0x40_0000_0000;
const IO_BASE = 0xc000;

/** Addresses are given out upwards, each aligned to the BAR's size. */
export class MmioWindow {
  #low = LOW_BASE;
  #high: number;
  #io = IO_BASE;

  private constructor(private readonly bus: SystemBus) {
    const ends = bus.memory.regions.map(({ base, size }) => base + size);
    this.#high = Math.max(HIGH_BASE, ...ends);
  }

  static readonly #windows = new WeakMap<SystemBus, MmioWindow>();

  /** The one window of a bus. */
  static of(bus: SystemBus): MmioWindow {
    const known = MmioWindow.#windows.get(bus);
    if (known) return known;
    const window = new MmioWindow(bus);
    MmioWindow.#windows.set(bus, window);
    return window;
  }

  /** @returns an address aligned to the BAR's size; 0 when there is no room */
  allocate({ kind, size }: PciBar): number {
    const align = kind === "io" ? size : Math.max(size, PAGE_SIZE);
    if (kind === "io") {
      const at = Math.ceil(this.#io / align) * align;
      this.#io = at + size;
      return at;
    }
    if (kind === "mem64") {
      const at = this.#room(this.#high, align);
      this.#high = at + size;
      return at;
    }
    const at = this.#room(this.#low, align);
    if (at + size > LOW_LIMIT) return 0;
    this.#low = at + size;
    return at;
  }

  #room(from: number, align: number): number {
    let at = Math.ceil(from / align) * align;
    while (!this.bus.isFree(at, align) || this.#holdsRam(at, align)) at += align;
    return at;
  }

  #holdsRam(from: number, bytes: number): boolean {
    return this.bus.memory.regions.some(({ base, size }) => from < base + size && base < from + bytes);
  }
}
