/** How a function interrupts: MSI-X, MSI or the INTx pin, whichever software has enabled (PCIe 6.1.4). */
import { MSI64_MASKED_CAPABILITY, MSIX_CAPABILITY, MSIX_TABLE_ENTRY, TYPE0_HEADER } from "@iommukit/core";
import type { ConfigSpace } from "./config-space.js";

/** Writes `data` to `address`: a DMA write of 4 bytes. */
export type SendMessage = (hi: number, lo: number, data: number) => void;

const ENTRY_WORDS = MSIX_TABLE_ENTRY.words;
const MSI = MSI64_MASKED_CAPABILITY;

/** `this.interrupts` of a PciDevice. */
export class Interrupts {
  /** MSI-X table and pending bits, as they stand in the BAR. */
  readonly table: Int32Array;
  readonly pending: Int32Array;
  readonly #listeners: ((asserted: boolean) => void)[] = [];
  #pin = false;
  #level = false;

  /** @param msi, @param msix offsets of the capabilities; 0 when the function has none. MSI has 64-bit addresses. */
  constructor(
    private readonly config: ConfigSpace,
    private readonly msi: number,
    private readonly msix: number,
    private readonly send: SendMessage,
  ) {
    const vectors = msix === 0 ? 0 : MSIX_CAPABILITY.TableSize.get(config.words, msix / 4) + 1;
    this.table = new Int32Array(vectors * ENTRY_WORDS);
    this.pending = new Int32Array(Math.ceil(vectors / 64) * 2);
    this.reset();
    if (msi !== 0) for (let at = msi; at < msi + this.#msiBytes(); at += 4) config.onWrite(at, () => this.#flushMsi());
    if (msix !== 0) config.onWrite(msix, () => this.#flushMsix());
    for (const at of [msi, msix]) if (at !== 0) config.onWrite(at, () => this.#drivePin());
    config.onWrite(4, () => this.#drivePin());
  }

  #msiBytes(): number {
    return this.#msiBit(MSI.PerVectorMaskingCapable) ? 24 : 16;
  }

  #msiBit(field: { get(words: Int32Array, at: number): number }): boolean {
    return this.msi !== 0 && field.get(this.config.words, this.msi / 4) === 1;
  }

  #msixBit(field: { get(words: Int32Array, at: number): number }): boolean {
    return this.msix !== 0 && field.get(this.config.words, this.msix / 4) === 1;
  }

  /** Signals a vector. With MSI, vectors beyond those enabled fold into them; with INTx, the pin is asserted. */
  raise(vector: number): void {
    if (this.#msixBit(MSIX_CAPABILITY.MSIXEnable)) this.#raiseMsix(vector);
    else if (this.#msiBit(MSI.MSIEnable)) this.#raiseMsi(vector);
    else this.setPin(true);
  }

  #raiseMsix(vector: number): void {
    const at = vector * ENTRY_WORDS;
    if (at >= this.table.length) return;
    if (this.#msixBit(MSIX_CAPABILITY.FunctionMask) || MSIX_TABLE_ENTRY.MaskBit.get(this.table, at) === 1) {
      this.pending[vector >> 5] |= 1 << (vector & 31);
      return;
    }
    this.pending[vector >> 5] &= ~(1 << (vector & 31));
    this.send(this.table[at + 1], this.table[at] & ~3, this.table[at + 2]);
  }

  #raiseMsi(vector: number): void {
    const { words } = this.config;
    const at = this.msi / 4;
    const index = vector & ((1 << MSI.MultipleMessageEnable.get(words, at)) - 1);
    if (this.#msiBit(MSI.PerVectorMaskingCapable)) {
      const bit = 1 << index;
      if ((MSI.MaskBits.lo(words, at) & bit) !== 0) {
        words[at + 5] |= bit;
        return;
      }
      words[at + 5] &= ~bit;
    }
    const data = this.#msiBit(MSI.ExtendedMessageDataEnable) ? words[at + 3] : words[at + 3] & 0xffff;
    this.send(words[at + 2], words[at + 1] & ~3, data | index);
  }

  #flushMsi(): void {
    if (!this.#msiBit(MSI.MSIEnable) || !this.#msiBit(MSI.PerVectorMaskingCapable)) return;
    const ready = this.config.words[this.msi / 4 + 5] & ~MSI.MaskBits.lo(this.config.words, this.msi / 4);
    for (let vector = 0; vector < 32; vector++) if ((ready >>> vector) & 1) this.#raiseMsi(vector);
  }

  #flushMsix(): void {
    if (!this.#msixBit(MSIX_CAPABILITY.MSIXEnable)) return;
    for (let vector = 0; vector * ENTRY_WORDS < this.table.length; vector++) {
      if ((this.pending[vector >> 5] >>> (vector & 31)) & 1) this.#raiseMsix(vector);
    }
  }

  /** The level that the function wants on its pin; Interrupt Disable holds it back, and so does MSI or MSI-X (PCIe 6.1.4.3). */
  setPin(level: boolean): void {
    this.#level = level;
    this.#drivePin();
  }

  #drivePin(): void {
    const { words } = this.config;
    TYPE0_HEADER.InterruptStatus.set(words, 0, this.#level ? 1 : 0);
    const messages = this.#msixBit(MSIX_CAPABILITY.MSIXEnable) || this.#msiBit(MSI.MSIEnable);
    const asserted = this.#level && !messages && TYPE0_HEADER.InterruptDisable.get(words, 0) === 0;
    if (asserted === this.#pin) return;
    this.#pin = asserted;
    for (const listener of this.#listeners) listener(asserted);
  }

  onPin(listener: (asserted: boolean) => void): void {
    this.#listeners.push(listener);
  }

  /** Table and pending bits as a BAR shows them. `offset` is from the start of the table or of the pending bits. */
  writeTable(offset: number, bytes: Uint8Array): void {
    new Uint8Array(this.table.buffer).set(bytes, offset);
    for (let at = 3; at < this.table.length; at += ENTRY_WORDS) this.table[at] &= 1;
    this.#flushMsix();
  }

  readTable(offset: number, into: Uint8Array): void {
    into.set(new Uint8Array(this.table.buffer, offset, into.length));
  }

  readPending(offset: number, into: Uint8Array): void {
    into.set(new Uint8Array(this.pending.buffer, offset, into.length));
  }

  reset(): void {
    this.pending.fill(0);
    for (let at = 0; at < this.table.length; at += ENTRY_WORDS) this.table.set([0, 0, 0, 1], at);
    this.setPin(false);
  }
}
