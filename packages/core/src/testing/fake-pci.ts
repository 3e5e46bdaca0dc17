/** A PCI function without behaviour: an address, an empty configuration space and a requester that notes what it is told. */
import type { RequesterPort } from "../bus/ports.js";
import { parseBdf } from "../pci/bdf.js";
import type { PciBar, PciFunction } from "../pci/pci-function.js";

export interface FakePciOptions {
  /** Bytes of configuration space that are not zero, by offset. */
  readonly config?: Readonly<Record<number, number>>;
  /** Bridges between it and the root complex, nearest first. */
  readonly upstream?: readonly PciFunction[];
}

export class FakePciFunction implements PciFunction {
  readonly segment: number;
  readonly rid: number;
  present = true;
  readonly configSize = 4096;
  readonly bars: readonly PciBar[] = [];
  readonly upstream: readonly PciFunction[];
  /** Messages from the IOMMU, in order. */
  readonly messages: string[] = [];
  readonly requester: RequesterPort = {
    invalidate: () => void this.messages.push("invalidate"),
    pageResponse: (response) => void this.messages.push(`pageResponse ${response.prgi}`),
    stallResolved: (stag, action) => void this.messages.push(`stallResolved ${stag} ${action}`),
  };
  readonly #config = new DataView(new ArrayBuffer(4096));

  constructor(
    readonly bdf: string,
    { config = {}, upstream = [] }: FakePciOptions = {},
  ) {
    ({ segment: this.segment, rid: this.rid } = parseBdf(bdf));
    this.upstream = upstream;
    for (const [offset, byte] of Object.entries(config)) this.#config.setUint8(Number(offset), byte);
  }

  readConfig(offset: number, width: 1 | 2 | 4): number {
    if (width === 1) return this.#config.getUint8(offset);
    return width === 2 ? this.#config.getUint16(offset, true) : this.#config.getUint32(offset, true);
  }

  writeConfig(offset: number, width: 1 | 2 | 4, value: number): void {
    if (width === 1) this.#config.setUint8(offset, value);
    else if (width === 2) this.#config.setUint16(offset, value, true);
    else this.#config.setUint32(offset, value, true);
  }

  readBar(_bar: number, _offset: number, _into: Uint8Array): boolean {
    return false;
  }

  writeBar(_bar: number, _offset: number, _bytes: Uint8Array): boolean {
    return false;
  }

  onIntx(): void {}
}
