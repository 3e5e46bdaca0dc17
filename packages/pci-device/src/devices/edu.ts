/**
 * QEMU's educational device (1234:11e8), register for register: identification, liveness, factorial, interrupts, and a DMA
 * engine with a 4 KiB buffer that starts 100 ms after it was told to. It has no status: a DMA that faults looks like one that
 * worked, reads get zeros for what could not be read, writes lose what could not be written.
 */
import { Access, type DevicePlugin, hi32, lo32, NO_PASID, type PciBar, parseBdf, type Timer } from "@iommukit/core";
import { type DevicePorts, devicePorts } from "../device-ports.js";
import { DmaStatus } from "../dma-status.js";
import type { FunctionOptions } from "../function-options.js";
import { PciDevice, type PlacementOptions } from "../pci-device.js";

/** For `edu()`. */
export interface EduOptions extends PlacementOptions {
  /** Addresses of DMA are cut to these bits; QEMU's default is 28 bits. Default here: all 64. */
  readonly dmaMask?: bigint;
}

const BARS: readonly PciBar[] = [{ index: 0, size: 0x10_0000, kind: "mem32", prefetchable: false }];

const EDU: FunctionOptions = {
  vendor: 0x1234,
  device: 0x11e8,
  revision: 0x10,
  classCode: 0x00ff00,
  subsystemVendor: 0x1af4,
  subsystem: 0x1100,
  interruptPin: 1,
  bars: BARS,
  conventional: true,
  msi: { vectorsLog2: 0, maskable: false },
};

const Reg = {
  IDENTIFICATION: 0x00,
  LIVENESS: 0x04,
  FACTORIAL: 0x08,
  STATUS: 0x20,
  IRQ_STATUS: 0x24,
  IRQ_RAISE: 0x60,
  IRQ_ACK: 0x64,
  DMA_SOURCE: 0x80,
  DMA_DESTINATION: 0x88,
  DMA_COUNT: 0x90,
  DMA_COMMAND: 0x98,
} as const;

/** Registers from here on also take 8-byte accesses. */
const WIDE = 0x80;
const ID = 0x010000edn;
const ALL_ONES = 0xffff_ffff_ffff_ffffn;

const STATUS_COMPUTING = 0x01;
const STATUS_IRQ_WHEN_DONE = 0x80;
const IRQ_FACTORIAL = 0x001;
const IRQ_DMA = 0x100;

const DMA_RUN = 1n;
const DMA_FROM_DEVICE = 2n;
const DMA_IRQ = 4n;
const DMA_DELAY = 100_000_000;
const FACTORIAL_DELAY = 1_000;

/** The buffer, at its address on the device's side. */
const BUFFER_BASE = 0x40000n;
const BUFFER_SIZE = 4096n;

/** The function that `edu()` makes. */
export class Edu extends PciDevice {
  readonly #buffer = new Uint8Array(Number(BUFFER_SIZE));
  readonly #dmaMask: bigint;
  #liveness = 0;
  #factorial = 0;
  #status = 0;
  #irqStatus = 0;
  #source = 0n;
  #destination = 0n;
  #count = 0n;
  #command = 0n;
  readonly #timers = new Set<Timer>();

  constructor(options: EduOptions, ports: DevicePorts) {
    super(EDU, options, ports);
    this.#dmaMask = options.dmaMask ?? ALL_ONES;
  }

  protected override readRegion(bar: number, offset: number, into: Uint8Array): boolean {
    if (crossesQword(offset, into.length)) {
      return this.readRegion(bar, offset, into.subarray(0, 4)) && this.readRegion(bar, offset + 4, into.subarray(4));
    }
    const value = validWidth(offset, into.length) ? this.#read(offset) : ALL_ONES;
    for (let i = 0; i < into.length; i++) into[i] = Number((value >> BigInt(8 * i)) & 0xffn);
    return true;
  }

  #read(offset: number): bigint {
    switch (offset) {
      case Reg.IDENTIFICATION:
        return ID;
      case Reg.LIVENESS:
        return BigInt(this.#liveness);
      case Reg.FACTORIAL:
        return BigInt(this.#factorial);
      case Reg.STATUS:
        return BigInt(this.#status);
      case Reg.IRQ_STATUS:
        return BigInt(this.#irqStatus);
      case Reg.DMA_SOURCE:
        return this.#source;
      case Reg.DMA_DESTINATION:
        return this.#destination;
      case Reg.DMA_COUNT:
        return this.#count;
      case Reg.DMA_COMMAND:
        return this.#command;
      default:
        return ALL_ONES;
    }
  }

  protected override writeRegion(bar: number, offset: number, bytes: Uint8Array): boolean {
    if (crossesQword(offset, bytes.length)) {
      return (
        this.writeRegion(bar, offset, bytes.subarray(0, 4)) && this.writeRegion(bar, offset + 4, bytes.subarray(4))
      );
    }
    if (!validWidth(offset, bytes.length)) return true;
    const value = bytes.reduceRight((high, byte) => (high << 8n) | BigInt(byte), 0n);
    if (offset >= WIDE) this.#writeDma(offset, value);
    else this.#write(offset, Number(value));
    return true;
  }

  #write(offset: number, value: number): void {
    switch (offset) {
      case Reg.LIVENESS:
        this.#liveness = ~value >>> 0;
        break;
      case Reg.FACTORIAL:
        this.#compute(value);
        break;
      case Reg.STATUS:
        this.#status = (this.#status & ~STATUS_IRQ_WHEN_DONE) | (value & STATUS_IRQ_WHEN_DONE);
        break;
      case Reg.IRQ_RAISE:
        this.#raise(value);
        break;
      case Reg.IRQ_ACK:
        this.#irqStatus &= ~value;
        if (this.#irqStatus === 0) this.interrupts.setPin(false);
        break;
    }
  }

  /** n! modulo 2^32. Ignored while one is being computed. */
  #compute(n: number): void {
    if ((this.#status & STATUS_COMPUTING) !== 0) return;
    this.#factorial = n;
    this.#status |= STATUS_COMPUTING;
    this.#later(FACTORIAL_DELAY, () => {
      let product = 1;
      for (let k = n; k > 0 && product !== 0; k--) product = Math.imul(product, k);
      this.#factorial = product >>> 0;
      this.#status &= ~STATUS_COMPUTING;
      if ((this.#status & STATUS_IRQ_WHEN_DONE) !== 0) this.#raise(IRQ_FACTORIAL);
    });
  }

  #raise(cause: number): void {
    this.#irqStatus = (this.#irqStatus | cause) >>> 0;
    if (this.#irqStatus !== 0) this.interrupts.raise(0);
  }

  /** The DMA registers ignore writes while a DMA runs. */
  #writeDma(offset: number, value: bigint): void {
    if ((this.#command & DMA_RUN) !== 0n) return;
    switch (offset) {
      case Reg.DMA_SOURCE:
        this.#source = value;
        break;
      case Reg.DMA_DESTINATION:
        this.#destination = value;
        break;
      case Reg.DMA_COUNT:
        this.#count = value;
        break;
      case Reg.DMA_COMMAND:
        if ((value & DMA_RUN) === 0n) break;
        this.#command = value;
        this.#later(DMA_DELAY, () => this.#startDma());
        break;
    }
  }

  #startDma(): void {
    const outward = (this.#command & DMA_FROM_DEVICE) !== 0n;
    const offset = (outward ? this.#source : this.#destination) - BUFFER_BASE;
    const address = (outward ? this.#destination : this.#source) & this.#dmaMask;
    // QEMU logs a buffer address out of range and goes on over its own memory; here nothing is moved.
    if (offset < 0n || offset + this.#count > BUFFER_SIZE) {
      this.#endDma();
      return;
    }
    const part = this.#buffer.subarray(Number(offset), Number(offset + this.#count));
    this.#move(part, address, outward ? Access.WRITE : Access.READ);
  }

  /** Goes on behind every piece that faults. Waits in a thread of its own when the IOMMU stalls one. */
  #move(part: Uint8Array, address: bigint, access: number): void {
    const unresolved = this.#advance(part, address, 0, access);
    if (unresolved === part.length) {
      this.#endDma();
      return;
    }
    this.ports.scheduler.spawn(`${this.bdf} DMA`, async () => {
      const era = this.#command;
      for (let from = unresolved; from < part.length; from = this.#advance(part, address, from, access)) {
        const rest = part.subarray(from);
        const at = address + BigInt(from);
        const options = { onFault: "report" } as const;
        const { status, done } = await (access === Access.WRITE
          ? this.dma.write(NO_PASID, at, rest, options)
          : this.dma.read(NO_PASID, at, rest, options));
        if (status === DmaStatus.CANCELLED) return;
        from += done + (status === DmaStatus.OK ? 0 : this.#skip(rest.subarray(done), at + BigInt(done), access));
      }
      if (era === this.#command) this.#endDma();
    });
  }

  /** @returns how far it came: the end, or the piece that is stalled */
  #advance(part: Uint8Array, address: bigint, from: number, access: number): number {
    let done = from;
    while (done < part.length) {
      const at = BigInt.asUintN(64, address + BigInt(done));
      const status = this.dma.tryAt(NO_PASID, hi32(at), lo32(at), part.subarray(done), access);
      if (status === DmaStatus.STALLED) return done;
      done += this.dma.done;
      if (status !== DmaStatus.OK) done += this.#skip(part.subarray(done), at + BigInt(this.dma.done), access);
    }
    return done;
  }

  /** One request of at most 4 bytes, naturally aligned, that was refused. @returns its size */
  #skip(rest: Uint8Array, address: bigint, access: number): number {
    let size = 4;
    while (size > rest.length || address % BigInt(size) !== 0n) size /= 2;
    if (access === Access.READ) rest.fill(0, 0, size);
    return size;
  }

  #endDma(): void {
    const interrupt = (this.#command & DMA_IRQ) !== 0n;
    this.#command &= ~DMA_RUN;
    if (interrupt) this.#raise(IRQ_DMA);
  }

  #later(delay: number, callback: () => void): void {
    const timer = this.ports.scheduler.timer(delay, () => {
      this.#timers.delete(timer);
      if (this.present) callback();
    });
    this.#timers.add(timer);
  }

  protected override resetDevice(): void {
    for (const timer of this.#timers) timer.cancel();
    this.#timers.clear();
    this.#liveness = this.#factorial = this.#status = this.#irqStatus = 0;
    this.#source = this.#destination = this.#count = this.#command = 0n;
    this.#buffer.fill(0);
  }
}

/** An access of 8 bytes that is only 4-byte aligned reaches the registers as two of 4. */
function crossesQword(offset: number, width: number): boolean {
  return width === 8 && offset % 8 === 4;
}

function validWidth(offset: number, width: number): boolean {
  return width === 4 || (width === 8 && offset >= WIDE);
}

/** QEMU's edu at `bdf`. */
export function edu(options: EduOptions): DevicePlugin {
  return {
    name: `edu ${options.bdf}`,
    segment: parseBdf(options.bdf).segment,
    create: (container) => [new Edu(options, devicePorts(container))],
  };
}
