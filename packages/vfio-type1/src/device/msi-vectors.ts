/** MSI and MSI-X of one device: which vector signals which eventfd, and what the device is told to write where. */
import {
  CapabilityId,
  type EventFd,
  findCapability,
  IommuError,
  MSI64_MASKED_CAPABILITY as MSI,
  MSIX_CAPABILITY,
  MSIX_TABLE_ENTRY,
  type MsiVector,
  type PciFunction,
  readField,
  writeField,
} from "@iommukit/core";

/** Where the device has to write for a message to reach the interrupt controller: an IOVA when the IOMMU translates it. */
export type PrepareMessage = (address: number) => Promise<bigint>;
/** A block of vectors from the interrupt controller. */
export type AllocateMessages = (handlers: readonly (() => void)[]) => readonly MsiVector[];

export interface MessageInterrupts {
  /** Vectors that were enabled; 0: none are. */
  readonly enabled: number;
  /** Vectors that the device has. */
  readonly available: number;
  /** pci_alloc_irq_vectors(1, count). @throws IommuError ERANGE for none */
  enable(count: number): Promise<void>;
  /** @param trigger undefined: nobody is told any more */
  set(vector: number, trigger: EventFd | undefined): Promise<void>;
  trigger(vector: number): EventFd | undefined;
  disable(): void;
}

/** What both kinds keep. */
abstract class Vectors implements MessageInterrupts {
  abstract readonly available: number;
  protected readonly triggers = new Map<number, EventFd>();
  #enabled = 0;

  constructor(
    protected readonly pci: PciFunction,
    protected readonly allocate: AllocateMessages,
    protected readonly prepare: PrepareMessage,
  ) {}

  get enabled(): number {
    return this.#enabled;
  }

  trigger(vector: number): EventFd | undefined {
    return this.triggers.get(vector);
  }

  async enable(count: number): Promise<void> {
    if (count < 1) throw new IommuError("ERANGE", `${this.pci.bdf}: 0 vectors`);
    await this.turnOn(count);
    this.#enabled = count;
  }

  disable(): void {
    if (this.#enabled === 0) return;
    this.turnOff();
    this.triggers.clear();
    this.#enabled = 0;
  }

  abstract set(vector: number, trigger: EventFd | undefined): Promise<void>;
  protected abstract turnOn(count: number): Promise<void>;
  protected abstract turnOff(): void;
}

/** One address for all vectors; the number of the vector is in the low bits of the data. */
export class MsiVectors extends Vectors {
  #vectors: readonly MsiVector[] = [];
  readonly #at: number;

  constructor(pci: PciFunction, allocate: AllocateMessages, prepare: PrepareMessage) {
    super(pci, allocate, prepare);
    this.#at = findCapability(pci, CapabilityId.MSI);
  }

  get available(): number {
    return this.#at === 0 ? 0 : 1 << readField(this.pci, this.#at, MSI.MultipleMessageCapable);
  }

  protected async turnOn(count: number): Promise<void> {
    const handlers = Array.from({ length: count }, (_, vector) => () => this.triggers.get(vector)?.signal());
    this.#vectors = this.allocate(handlers);
    const [{ address, data }] = this.#vectors;
    const target = await this.#aim(address);
    const wide = readField(this.pci, this.#at, MSI.AddressCapable64Bit) === 1;
    this.pci.writeConfig(this.#at + 4, 4, Number(target & 0xffff_ffffn));
    if (wide) this.pci.writeConfig(this.#at + 8, 4, Number(target >> 32n));
    this.pci.writeConfig(this.#at + (wide ? 12 : 8), 2, data & 0xffff);
    writeField(this.pci, this.#at, MSI.MultipleMessageEnable, Math.ceil(Math.log2(count)));
    writeField(this.pci, this.#at, MSI.MSIEnable, 1);
  }

  async #aim(address: number): Promise<bigint> {
    try {
      return await this.prepare(address);
    } catch (error) {
      this.turnOff();
      throw error;
    }
  }

  protected turnOff(): void {
    writeField(this.pci, this.#at, MSI.MSIEnable, 0);
    for (const vector of this.#vectors) vector.free();
    this.#vectors = [];
  }

  async set(vector: number, trigger: EventFd | undefined): Promise<void> {
    if (trigger) this.triggers.set(vector, trigger);
    else this.triggers.delete(vector);
  }
}

/** Each vector has an entry of its own in a BAR; an entry without an eventfd is masked. */
export class MsixVectors extends Vectors {
  readonly #vectors = new Map<number, MsiVector>();
  readonly #at: number;

  constructor(pci: PciFunction, allocate: AllocateMessages, prepare: PrepareMessage) {
    super(pci, allocate, prepare);
    this.#at = findCapability(pci, CapabilityId.MSIX);
  }

  get available(): number {
    return this.#at === 0 ? 0 : readField(this.pci, this.#at, MSIX_CAPABILITY.TableSize) + 1;
  }

  /** BAR, and byte range of the table in it. */
  get table(): { readonly bar: number; readonly offset: number; readonly bytes: number } | undefined {
    if (this.#at === 0) return undefined;
    return {
      bar: readField(this.pci, this.#at, MSIX_CAPABILITY.TableBIR),
      offset: readField(this.pci, this.#at, MSIX_CAPABILITY.TableOffset) * 8,
      bytes: this.available * MSIX_TABLE_ENTRY.bytes,
    };
  }

  protected async turnOn(): Promise<void> {
    writeField(this.pci, this.#at, MSIX_CAPABILITY.FunctionMask, 0);
    writeField(this.pci, this.#at, MSIX_CAPABILITY.MSIXEnable, 1);
  }

  protected turnOff(): void {
    for (const vector of [...this.#vectors.keys()]) this.#mask(vector);
    writeField(this.pci, this.#at, MSIX_CAPABILITY.MSIXEnable, 0);
  }

  async set(vector: number, trigger: EventFd | undefined): Promise<void> {
    this.#mask(vector);
    if (!trigger) return;
    const [message] = this.allocate([() => this.triggers.get(vector)?.signal()]);
    this.#vectors.set(vector, message);
    this.triggers.set(vector, trigger);
    try {
      this.#writeEntry(vector, await this.prepare(message.address), message.data, false);
    } catch (error) {
      this.#mask(vector);
      throw error;
    }
  }

  #mask(vector: number): void {
    const message = this.#vectors.get(vector);
    this.triggers.delete(vector);
    if (!message) return;
    this.#vectors.delete(vector);
    this.#writeEntry(vector, 0n, 0, true);
    message.free();
  }

  #writeEntry(vector: number, address: bigint, data: number, masked: boolean): void {
    const { table } = this;
    if (!table) return;
    const entry = MSIX_TABLE_ENTRY.encode({ MessageData: data, MaskBit: masked });
    entry[0] = Number(address & 0xffff_ffffn) | 0;
    entry[1] = Number(address >> 32n) | 0;
    const bytes = new Uint8Array(entry.buffer);
    const at = table.offset + vector * MSIX_TABLE_ENTRY.bytes;
    // The mask bit is written last: the entry is never live and half written.
    for (let word = 0; word < MSIX_TABLE_ENTRY.words; word++)
      this.pci.writeBar(table.bar, at + 4 * word, bytes.subarray(4 * word, 4 * word + 4));
  }
}
