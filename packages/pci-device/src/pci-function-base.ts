/**
 * What endpoints and bridges have in common: an address, a configuration space, resets, surprise removal, and the bridges
 * above. While it is not present, reads give all ones and writes are lost.
 */
import {
  formatBdf,
  PCI_EXPRESS_CAPABILITY,
  type PciBar,
  type PciFunction,
  parseBdf,
  type RequesterPort,
  TYPE0_HEADER,
} from "@iommukit/core";
import type { CapabilityOffsets } from "./build-config.js";
import type { ConfigReset, ConfigSpace } from "./config-space.js";
import type { PciBridge } from "./pci-bridge.js";

/** PciDevice and PciBridge derive from it. */
export abstract class PciFunctionBase implements PciFunction {
  readonly segment: number;
  /** Changes when software renumbers the bus. */
  rid: number;
  present = true;
  readonly configSize: number;
  abstract readonly bars: readonly PciBar[];
  abstract readonly requester: RequesterPort;
  /** Bus Master Enable. */
  protected busMaster = false;

  constructor(
    bdf: string,
    readonly config: ConfigSpace,
    readonly capabilities: CapabilityOffsets,
    readonly upstream: readonly PciBridge[],
  ) {
    const address = parseBdf(bdf);
    this.segment = address.segment;
    this.rid = address.rid;
    this.configSize = config.size;
    upstream[0]?.connect(this);
    config.onWrite(4, () => this.readCommand());
    if (capabilities.pcie !== 0) {
      const { word, lowMask } = PCI_EXPRESS_CAPABILITY.InitiateFunctionLevelReset;
      config.onWrite(capabilities.pcie + word * 4, (ones) => {
        if ((ones & lowMask) !== 0 && this.#flrCapable()) this.reset("function");
      });
    }
  }

  get bdf(): string {
    return formatBdf(this);
  }

  #flrCapable(): boolean {
    return PCI_EXPRESS_CAPABILITY.FunctionLevelResetCapability.get(this.config.words, this.capabilities.pcie / 4) === 1;
  }

  protected readCommand(): void {
    this.busMaster = TYPE0_HEADER.BusMasterEnable.get(this.config.words) === 1;
  }

  /** It and every bridge above may send requests upstream. */
  get mayMaster(): boolean {
    return this.busMaster && this.present && (this.upstream.length === 0 || this.upstream[0].mayMaster);
  }

  /** False while it takes no notice of anything that is sent to it. */
  protected get answers(): boolean {
    return this.present;
  }

  readConfig(offset: number, width: 1 | 2 | 4): number {
    return this.answers ? this.config.read(offset, width) : width === 4 ? 0xffff_ffff : 2 ** (8 * width) - 1;
  }

  writeConfig(offset: number, width: 1 | 2 | 4, value: number): void {
    if (this.answers) this.config.write(offset, width, value);
  }

  abstract readBar(bar: number, offset: number, into: Uint8Array): boolean;
  abstract writeBar(bar: number, offset: number, bytes: Uint8Array): boolean;
  abstract onIntx(listener: (asserted: boolean) => void): void;

  /** Every register goes back to its reset value as far as the kind of reset demands. */
  reset(kind: ConfigReset): void {
    this.config.reset(kind);
    this.readCommand();
  }

  /** The function is there, as after power-on. */
  appear(): void {
    if (this.present) return;
    this.present = true;
    this.upstream[0]?.connect(this);
    this.reset("cold");
  }

  /** Surprise removal: the function is gone from one moment to the next. */
  remove(): void {
    this.present = false;
    this.upstream[0]?.disconnect(this);
  }
}
