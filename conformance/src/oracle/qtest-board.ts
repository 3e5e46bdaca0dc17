/**
 * A QEMU machine as the board under one of our drivers: its RAM, its registers, its PCI functions and its interrupt wires behind the
 * interfaces of core. The driver cannot tell it from our own chips.
 */
import type {
  InterruptController,
  MemoryRegion,
  Mmio,
  PciBar,
  PciFunction,
  PhysicalMemory,
  RequesterPort,
} from "@iommukit/core";
import type { Qtest } from "./qtest.js";

/** RAM of the guest. What software writes is queued; whoever reads gets what stands there then. */
export class QtestMemory implements PhysicalMemory {
  viewAt = 0;

  constructor(
    private readonly qtest: Qtest,
    readonly regions: readonly MemoryRegion[],
  ) {}

  view(hi: number, lo: number, words: number): Int32Array | null {
    const pa = (hi >>> 0) * 2 ** 32 + (lo >>> 0);
    if (!this.has(pa, 4 * words)) return null;
    return Int32Array.from({ length: words }, (_, word) => this.load32(pa + 4 * word) | 0);
  }

  store64(pa: number, hi: number, lo: number): boolean {
    if (!this.has(pa, 8)) return false;
    this.qtest.store64(pa, hi, lo);
    return true;
  }

  store32(pa: number, value: number): boolean {
    if (!this.has(pa, 4)) return false;
    this.qtest.writel(pa, value);
    return true;
  }

  compareExchange64(pa: number, expectedHi: number, expectedLo: number, hi: number, lo: number): boolean {
    const expected = (BigInt(expectedHi >>> 0) << 32n) | BigInt(expectedLo >>> 0);
    return this.load64(pa) === expected && this.store64(pa, hi, lo);
  }

  load32(pa: number): number {
    return this.has(pa, 4) ? this.qtest.readl(pa) : 0xffff_ffff;
  }

  load64(pa: number): bigint {
    return this.has(pa, 8) ? this.qtest.readq(pa) : 0xffff_ffff_ffff_ffffn;
  }

  readBytes(pa: number, into: Uint8Array): boolean {
    if (!this.has(pa, into.length)) return false;
    into.set(this.qtest.read(pa, into.length));
    return true;
  }

  writeBytes(pa: number, bytes: Uint8Array): boolean {
    if (!this.has(pa, bytes.length)) return false;
    this.qtest.write(pa, bytes);
    return true;
  }

  fill(pa: number, length: number, byte: number): boolean {
    if (!this.has(pa, length)) return false;
    this.qtest.fill(pa, length, byte);
    return true;
  }

  has(pa: number, length: number): boolean {
    return this.regions.some(({ base, size }) => pa >= base && pa + length <= base + size);
  }
}

/** The registers of a unit. A 64-bit register is accessed as one: QEMU ignores halves of none and the whole of a 32-bit one. */
export class QtestMmio implements Mmio {
  constructor(
    private readonly qtest: Qtest,
    private readonly base: number,
  ) {}

  read32(offset: number): number {
    return this.qtest.readl(this.base + offset);
  }

  write32(offset: number, value: number): void {
    this.qtest.writel(this.base + offset, value);
  }

  read64(offset: number): bigint {
    return this.qtest.readq(this.base + offset);
  }

  write64(offset: number, value: bigint): void {
    this.qtest.writeq(this.base + offset, value);
  }
}

/** Wires that go into the guest's interrupt controller, passed on to a board of ours. */
export class QtestWires {
  /** @param controller QOM path of the guest's. @param lines names of its inputs on our board */
  constructor(
    private readonly qtest: Qtest,
    controller: string,
    private readonly lines: ReadonlyMap<number, string>,
    private readonly board: InterruptController,
  ) {
    qtest.send(`irq_intercept_in ${controller}`);
  }

  /** Passes on what QEMU has signalled so far. */
  pump(): void {
    this.qtest.flush();
    for (const line of this.qtest.interrupts.splice(0)) {
      const [, action, input] = line.split(" ");
      const name = this.lines.get(Number(input));
      if (name !== undefined) this.board.setWire(name, action === "raise");
    }
  }
}

/** A function of the guest's PCI bus, through the memory-mapped configuration space. */
export class QtestPciFunction implements PciFunction {
  readonly segment = 0;
  readonly present = true;
  readonly configSize: number = 4096;
  readonly bars: readonly PciBar[] = [];
  readonly upstream: readonly PciFunction[] = [];
  /** QEMU's functions get their messages inside of QEMU. */
  readonly requester: RequesterPort = { invalidate: () => {}, pageResponse: () => {}, stallResolved: () => {} };
  readonly #config: number;

  constructor(
    protected readonly qtest: Qtest,
    ecam: number,
    readonly rid: number,
    readonly bdf: string,
  ) {
    this.#config = ecam + rid * 4096;
  }

  readConfig(offset: number, width: 1 | 2 | 4): number {
    const word = this.qtest.readl(this.#config + (offset & ~3));
    const shifted = word / 2 ** (8 * (offset & 3));
    return width === 4 ? word : Math.floor(shifted) % 2 ** (8 * width);
  }

  writeConfig(offset: number, width: 1 | 2 | 4, value: number): void {
    this.qtest.send(`write${{ 1: "b", 2: "w", 4: "l" }[width]} ${this.#config + offset} ${value >>> 0}`);
  }

  readBar(): boolean {
    return false;
  }

  writeBar(): boolean {
    return false;
  }

  onIntx(): void {}
}
