/**
 * A network device as an IOMMU sees one: it reads descriptors from rings all the time, moves the buffers that they point to
 * and writes back that it has. What it sends comes out at `onTransmit`; what arrives is given to `receive`. For replaying
 * workloads: with translations at hand all of it is synchronous.
 */
import {
  Access,
  bit,
  type DevicePlugin,
  type FieldOptions,
  layout,
  NO_PASID,
  type PciBar,
  parseBdf,
  RegisterFile,
  register,
  reserved,
  uint,
} from "@iommukit/core";
import { type DevicePorts, devicePorts } from "../device-ports.js";
import { DmaStatus } from "../dma-status.js";
import type { AtsOptions, FunctionOptions, PasidOptions, PriOptions } from "../function-options.js";
import { PciDevice, type PlacementOptions } from "../pci-device.js";

const RO: FieldOptions = { access: "ro" };
const SPEC = "nic";

/** One buffer. Hardware takes it when Owned is set, and clears Owned when it is done. */
export const NIC_DESCRIPTOR = layout(
  { name: "NIC descriptor", bits: 128, spec: SPEC },
  {
    BufferAddress: uint(63, 0, "IOVA of the buffer"),
    Length: uint(79, 64, "bytes to send; received: room, then bytes written"),
    Reserved: reserved(93, 80),
    Error: bit(94, "the buffer could not be read or written"),
    Owned: bit(95, "the device's"),
    Cookie: uint(127, 96, "not touched"),
  },
);

function ring(name: string, offset: number) {
  return {
    base: register(
      { name: `${name}_BASE`, offset, bits: 64, spec: SPEC },
      { Address: uint(63, 0, "IOVA of the ring") },
    ),
    size: register(
      { name: `${name}_SIZE`, offset: offset + 8, bits: 32, spec: SPEC },
      { Entries: uint(15, 0, "descriptors; a power of two"), Reserved: reserved(31, 16) },
    ),
    tail: register(
      { name: `${name}_TAIL`, offset: offset + 12, bits: 32, spec: SPEC },
      { Index: uint(15, 0, "first descriptor that is not the device's; writing it rings"), Reserved: reserved(31, 16) },
    ),
    head: register(
      { name: `${name}_HEAD`, offset: offset + 16, bits: 32, spec: SPEC },
      { Index: uint(15, 0, "next descriptor that the device takes", RO), Reserved: reserved(31, 16) },
    ),
  };
}

export const NIC_CONTROL = register(
  { name: "CONTROL", offset: 0, bits: 32, spec: SPEC },
  {
    Enable: bit(0, "the rings are served"),
    PASIDEnable: bit(1, "DMA carries the PASID"),
    Reserved: reserved(7, 2),
    PASID: uint(27, 8, "address space of rings and buffers"),
    Reserved2: reserved(31, 28),
  },
);

/** Registers of the transmit ring. */
export const NIC_TX = ring("TX", 0x20);

/** Registers of the receive ring. */
export const NIC_RX = ring("RX", 0x40);

const REGISTERS = 0x100;
const BARS: readonly PciBar[] = [{ index: 0, size: 0x4000, kind: "mem64", prefetchable: false }];
const MSIX = { vectors: 2, bar: 0, table: 0x2000, pba: 0x3000 } as const;
const TX_VECTOR = 0;
const RX_VECTOR = 1;

/** For `nic()`. */
export interface NicOptions extends PlacementOptions {
  readonly ats?: AtsOptions | null;
  readonly pri?: PriOptions | null;
  readonly pasid?: PasidOptions | null;
}

function nicFunction({ ats, pri, pasid }: NicOptions): FunctionOptions {
  return {
    vendor: 0x1234,
    device: 0x5a02,
    classCode: 0x020000,
    revision: 1,
    bars: BARS,
    functionLevelReset: true,
    msix: MSIX,
    ats: ats ?? undefined,
    pri: pri ?? undefined,
    pasid: pasid ?? undefined,
  };
}

type Ring = typeof NIC_TX;

/** The function that `nic()` makes. */
export class Nic extends PciDevice {
  readonly #file: RegisterFile;
  readonly #descriptor = new Int32Array(NIC_DESCRIPTOR.words);
  readonly #descriptorBytes = new Uint8Array(this.#descriptor.buffer);
  readonly #buffer = new Uint8Array(0x1_0000);
  readonly #arrived: Uint8Array[] = [];
  /** The thread that waits for a page, until a reset forgets it. */
  #waiting: object | undefined;
  /** Frames sent and received, and buffers that could not be reached. */
  readonly counters = { sent: 0, received: 0, dropped: 0, errors: 0 };
  /** Takes what is sent; the bytes are valid during the call. */
  onTransmit: (frame: Uint8Array) => void = () => {};

  constructor(options: NicOptions, ports: DevicePorts) {
    super(nicFunction(options), options, ports);
    this.#file = new RegisterFile(this.bdf, REGISTERS, [
      NIC_CONTROL,
      ...Object.values(NIC_TX),
      ...Object.values(NIC_RX),
    ]);
    this.#file.onWrite(NIC_TX.tail, () => this.#serve());
    this.#file.onWrite(NIC_RX.tail, () => this.#serve());
  }

  /** A frame from the wire: put into the next receive buffer, or dropped when there is none. */
  receive(frame: Uint8Array): void {
    this.#arrived.push(frame);
    this.#serve();
  }

  /** Works on what can be done at once; a thread goes on with what has to wait. */
  #serve(): void {
    if (this.#waiting || NIC_CONTROL.Enable.get(this.#file.words) === 0) return;
    while (this.#transmitOne() || this.#receiveOne());
  }

  #left(ring: Ring): boolean {
    const { words } = this.#file;
    return ring.head.Index.get(words, ring.head.index) !== ring.tail.Index.get(words, ring.tail.index);
  }

  #transmitOne(): boolean {
    if (!this.#left(NIC_TX) || !this.#fetch(NIC_TX)) return false;
    const length = NIC_DESCRIPTOR.Length.get(this.#descriptor);
    const frame = this.#buffer.subarray(0, length);
    const status = this.#buffers(frame, Access.READ);
    if (status === undefined) return false;
    if (status === DmaStatus.OK) {
      this.counters.sent++;
      this.onTransmit(frame);
    }
    return this.#giveBack(NIC_TX, status, length, TX_VECTOR);
  }

  #receiveOne(): boolean {
    const frame = this.#arrived[0];
    if (frame === undefined) return false;
    if (!this.#left(NIC_RX)) {
      this.#arrived.shift();
      this.counters.dropped++;
      return true;
    }
    if (!this.#fetch(NIC_RX)) return false;
    const room = NIC_DESCRIPTOR.Length.get(this.#descriptor);
    const status = this.#buffers(frame.subarray(0, room), Access.WRITE);
    if (status === undefined) return false;
    this.#arrived.shift();
    if (status === DmaStatus.OK) this.counters.received++;
    return this.#giveBack(NIC_RX, status, Math.min(room, frame.length), RX_VECTOR);
  }

  #pasid(): number {
    const { words } = this.#file;
    return NIC_CONTROL.PASIDEnable.get(words) === 1 ? NIC_CONTROL.PASID.get(words) : NO_PASID;
  }

  /** Halves of the current descriptor's address. */
  #place(ring: Ring): { readonly hi: number; readonly lo: number } {
    const { words } = this.#file;
    const low = (ring.base.Address.lo(words, ring.base.index) >>> 0) + 16 * ring.head.Index.get(words, ring.head.index);
    return { hi: ring.base.Address.hi(words, ring.base.index) + (low >= 2 ** 32 ? 1 : 0), lo: low | 0 };
  }

  /** Reads the ring's next descriptor. False when it is not the device's, cannot be read, or has to be waited for. */
  #fetch(ring: Ring): boolean {
    const { hi, lo } = this.#place(ring);
    const status = this.dma.tryAt(this.#pasid(), hi, lo, this.#descriptorBytes, Access.READ);
    if (this.#waitFor(status, hi, lo, this.#descriptorBytes, Access.READ)) return false;
    if (status !== DmaStatus.OK) this.#stop();
    return status === DmaStatus.OK && NIC_DESCRIPTOR.Owned.get(this.#descriptor) === 1;
  }

  /** @returns undefined when the buffer has to be waited for */
  #buffers(bytes: Uint8Array, access: number): number | undefined {
    const hi = NIC_DESCRIPTOR.BufferAddress.hi(this.#descriptor);
    const lo = NIC_DESCRIPTOR.BufferAddress.lo(this.#descriptor);
    const status = this.dma.tryAt(this.#pasid(), hi, lo, bytes, access);
    return this.#waitFor(status, hi, lo, bytes, access) ? undefined : status;
  }

  #giveBack(ring: Ring, status: number, length: number, vector: number): boolean {
    const { words } = this.#file;
    if (status !== DmaStatus.OK) this.counters.errors++;
    NIC_DESCRIPTOR.Owned.set(this.#descriptor, 0, 0);
    NIC_DESCRIPTOR.Error.set(this.#descriptor, 0, status === DmaStatus.OK ? 0 : 1);
    NIC_DESCRIPTOR.Length.set(this.#descriptor, 0, length);
    const { hi, lo } = this.#place(ring);
    // The ring was readable a moment ago; a ring that is not writable stops the device.
    if (this.dma.tryAt(this.#pasid(), hi, lo, this.#descriptorBytes, Access.WRITE) !== DmaStatus.OK) this.#stop();
    const next =
      (ring.head.Index.get(words, ring.head.index) + 1) % (ring.size.Entries.get(words, ring.size.index) || 1);
    ring.head.Index.set(words, ring.head.index, next);
    this.interrupts.raise(vector);
    return true;
  }

  /** Page requests and stalls are waited for by a thread, which then starts over with the same descriptor. */
  #waitFor(status: number, hi: number, lo: number, bytes: Uint8Array, access: number): boolean {
    if (status !== DmaStatus.NOT_PRESENT && status !== DmaStatus.STALLED) return false;
    if (status === DmaStatus.NOT_PRESENT && !this.pri?.usable) return false;
    const waiting = {};
    this.#waiting = waiting;
    const address = (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
    const pasid = this.#pasid();
    this.ports.scheduler.spawn(`${this.bdf} queue`, async () => {
      const transfer =
        access === Access.READ ? this.dma.read(pasid, address, bytes) : this.dma.write(pasid, address, bytes);
      const result = await transfer;
      if (this.#waiting !== waiting) return;
      this.#waiting = undefined;
      if (result.status === DmaStatus.OK) this.#serve();
      else if (result.status !== DmaStatus.CANCELLED) this.#stop();
    });
    return true;
  }

  /** A ring that cannot be reached: the device waits to be set up anew. */
  #stop(): void {
    this.counters.errors++;
    NIC_CONTROL.Enable.set(this.#file.words, 0, 0);
  }

  protected override readRegion(_bar: number, offset: number, into: Uint8Array): boolean {
    if (offset % 4 !== 0 || into.length % 4 !== 0) return false;
    const view = new DataView(into.buffer, into.byteOffset, into.length);
    for (let at = 0; at < into.length; at += 4) view.setUint32(at, this.#file.read32(offset + at), true);
    return true;
  }

  protected override writeRegion(_bar: number, offset: number, bytes: Uint8Array): boolean {
    if (offset % 4 !== 0 || bytes.length % 4 !== 0) return false;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at < bytes.length; at += 4) this.#file.write32(offset + at, view.getUint32(at, true));
    return true;
  }

  protected override resetDevice(): void {
    this.#file.reset();
    this.#arrived.length = 0;
    this.#waiting = undefined;
  }
}

/** A network-like device at `bdf`. */
export function nic(options: NicOptions): DevicePlugin {
  return {
    name: `nic ${options.bdf}`,
    segment: parseBdf(options.bdf).segment,
    create: (container) => [new Nic(options, devicePorts(container))],
  };
}
