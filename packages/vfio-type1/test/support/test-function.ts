/** A PCI function with MSI and MSI-X, two BARs and an INTx pin, as its own driver would see it: nothing is enforced. */
import { MSI64_CAPABILITY, MSIX_CAPABILITY, type PciBar, type PciFunction } from "@iommukit/core";
import { FakePciFunction } from "@iommukit/core/testing";

export const MSI_AT = 0x50;
export const MSIX_AT = 0x70;
export const BAR0 = 0xe000_0000;

function bytesOf(words: Int32Array, at: number): Record<number, number> {
  return Object.fromEntries([...new Uint8Array(words.buffer)].map((byte, i) => [at + i, byte]));
}

export class TestFunction extends FakePciFunction {
  override readonly bars: readonly PciBar[] = [
    { index: 0, size: 0x4000, kind: "mem32", prefetchable: false },
    { index: 2, size: 0x20, kind: "io", prefetchable: false },
  ];
  readonly memory = new Uint8Array(0x4000);
  #listener: (asserted: boolean) => void = () => {};

  constructor(bdf: string, upstream: readonly PciFunction[] = []) {
    super(bdf, {
      upstream,
      config: {
        0: 0x34,
        1: 0x12,
        4: 0x06,
        6: 0x10,
        19: 0xe0,
        24: 0x01,
        25: 0xc0,
        52: MSI_AT,
        61: 1,
        ...bytesOf(
          MSI64_CAPABILITY.encode({
            CapabilityID: 5,
            NextCapabilityPointer: MSIX_AT,
            MultipleMessageCapable: 2,
            AddressCapable64Bit: true,
          }),
          MSI_AT,
        ),
        ...bytesOf(MSIX_CAPABILITY.encode({ CapabilityID: 0x11, TableSize: 3, TableOffset: 0x1000 / 8 }), MSIX_AT),
      },
    });
  }

  override readBar(bar: number, offset: number, into?: Uint8Array): boolean {
    if (bar !== 0 || !into) return false;
    into.set(this.memory.subarray(offset, offset + into.length));
    return true;
  }

  override writeBar(bar: number, offset: number, bytes?: Uint8Array): boolean {
    if (bar !== 0 || !bytes) return false;
    this.memory.set(bytes, offset);
    return true;
  }

  override onIntx(listener?: (asserted: boolean) => void): void {
    if (listener) this.#listener = listener;
  }

  setPin(asserted: boolean): void {
    this.#listener(asserted);
  }

  /** MSI-X table entry: address low and high, data, control. */
  entry(vector: number): number[] {
    return [...new Uint32Array(this.memory.slice(0x1000 + 16 * vector, 0x1010 + 16 * vector).buffer)];
  }
}
