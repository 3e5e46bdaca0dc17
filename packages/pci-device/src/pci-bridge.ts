/**
 * Root ports, switch ports and bridges to conventional PCI: a type 1 header, bus numbers, ACS, and the reset of what is
 * behind. Requests from below pass while Bus Master Enable is set.
 */
import {
  IommuError,
  PCI_EXPRESS_CAPABILITY,
  type PciBar,
  type PortType,
  type RequesterPort,
  TYPE1_HEADER,
} from "@iommukit/core";
import { addCapabilities, identity } from "./build-config.js";
import { type ConfigReset, ConfigSpace } from "./config-space.js";
import type { FunctionOptions } from "./function-options.js";
import { PciFunctionBase } from "./pci-function-base.js";

/** Port types of the PCI Express capability that are bridges. */
export type BridgeType = Extract<
  keyof typeof PortType,
  "root port" | "upstream port" | "downstream port" | "PCIe to PCI bridge"
>;

/** A bridge's place, the buses behind it, and its ACS. */
export interface BridgeOptions {
  readonly bdf: string;
  readonly type: BridgeType;
  /** Bus behind it, and the highest bus number below; firmware's numbers, which software may change. */
  readonly secondary: number;
  readonly subordinate?: number;
  /** Acs bits; by default a port has and enables what isolates: SV, RR, CR, UF. null: no ACS capability. */
  readonly acs?: { readonly supported: number; readonly enabled?: number } | null;
  /** The ids of the function; QEMU's root port when absent. */
  readonly vendor?: number;
  readonly device?: number;
  readonly multiFunction?: boolean;
  /** End-end TLP prefixes pass. Default: yes. */
  readonly tlpPrefixes?: boolean;
  /** Number of the hot-plug slot that the port leads to. */
  readonly slot?: number;
}

/** An IOMMU has nothing to tell a bridge. */
const NOBODY: RequesterPort = { invalidate: () => {}, pageResponse: () => {}, stallResolved: () => {} };

const ISOLATING = 0x1d;
/** Type of a prefetchable window that may lie above 4 GiB, in the low bits of its base and limit. */
const PREFETCHABLE_64BIT = 1;

function slotRegisters(slot: number) {
  return {
    SlotImplemented: true,
    HotPlugCapable: true,
    HotPlugSurprise: true,
    PhysicalSlotNumber: slot,
    NoCommandCompletedSupport: true,
    DataLinkLayerLinkActiveReportingCapable: true,
  };
}

function bridgeFunction(options: BridgeOptions): FunctionOptions {
  const conventional = options.type === "PCIe to PCI bridge";
  const isolating = options.type === "root port" || options.type === "downstream port";
  return {
    vendor: options.vendor ?? 0x1b36,
    device: options.device ?? (conventional ? 0x000e : 0x000c),
    classCode: 0x060400,
    portType: options.type,
    tlpPrefixes: options.tlpPrefixes ?? !conventional,
    pcie: options.slot === undefined ? {} : slotRegisters(options.slot),
    acs: options.acs === undefined ? (isolating ? { supported: ISOLATING } : undefined) : (options.acs ?? undefined),
  };
}

/** What `rootPort` and its like make. */
export class PciBridge extends PciFunctionBase {
  readonly bars: readonly PciBar[] = [];
  readonly requester = NOBODY;
  readonly type: BridgeType;
  readonly #below: PciFunctionBase[] = [];

  constructor(options: BridgeOptions, upstream: readonly PciBridge[]) {
    const description = bridgeFunction(options);
    const config = new ConfigSpace(4096);
    config.place(TYPE1_HEADER, 0, {
      ...identity(description, options.multiFunction ?? false),
      HeaderLayout: 1,
      PrefetchableMemoryBase: PREFETCHABLE_64BIT,
      PrefetchableMemoryLimit: PREFETCHABLE_64BIT,
    });
    for (const index of [4, 5, 0x38 / 4]) config.removeBar(index);
    // The low bits of a window's ends say its kind; I/O addresses have 16 bits (PCIe 7.5.1.3.6 to 7.5.1.3.11).
    config.lock(0x1c, 0x0f0f);
    for (const window of [0x20, 0x24]) config.lock(window, 0x000f_000f);
    config.lock(0x30, -1);
    super(options.bdf, config, addCapabilities(config, description), upstream);
    this.type = options.type;
    const { secondary, subordinate = secondary } = options;
    if (!(secondary > 0 && secondary <= subordinate && subordinate <= 0xff))
      throw new IommuError("EINVAL", `${options.bdf}: buses ${secondary} to ${subordinate} behind it; 1 to 255 rising`);
    this.setBusNumbers(secondary, subordinate);
    config.onWrite(0x18, () => this.#renumber());
    config.onWrite(0x3c, () => {
      if (TYPE1_HEADER.SecondaryBusReset.get(config.words) === 1) this.resetBelow("hot");
    });
  }

  /** What firmware does: bus numbers, windows open, requests from below pass. */
  setBusNumbers(secondary: number, subordinate: number): void {
    this.writeConfig(0x18, 4, (this.rid >>> 8) | (secondary << 8) | (subordinate << 16));
    this.writeConfig(4, 2, 6);
  }

  get secondary(): number {
    return TYPE1_HEADER.SecondaryBusNumber.get(this.config.words);
  }

  /** Functions on the bus behind it. */
  get below(): readonly PciFunctionBase[] {
    return this.#below;
  }

  connect(child: PciFunctionBase): void {
    this.#below.push(child);
    child.rid = (child.rid & 0xff) | (this.secondary << 8);
    this.#showPresence();
  }

  disconnect(child: PciFunctionBase): void {
    const index = this.#below.indexOf(child);
    if (index >= 0) this.#below.splice(index, 1);
    this.#showPresence();
  }

  /** What the slot tells the hot-plug driver: something is there, the link is up, and that either has changed. */
  #showPresence(): void {
    const { words } = this.config;
    const at = this.capabilities.pcie / 4;
    const { SlotImplemented, PresenceDetectState, PresenceDetectChanged } = PCI_EXPRESS_CAPABILITY;
    const { DataLinkLayerLinkActive, DataLinkLayerStateChanged } = PCI_EXPRESS_CAPABILITY;
    const present = this.#below.length > 0 ? 1 : 0;
    if (SlotImplemented.get(words, at) === 0 || PresenceDetectState.get(words, at) === present) return;
    PresenceDetectState.set(words, at, present);
    PresenceDetectChanged.set(words, at, 1);
    DataLinkLayerLinkActive.set(words, at, present);
    DataLinkLayerStateChanged.set(words, at, 1);
  }

  /** Functions capture the bus number of the configuration writes that reach them (PCIe 2.2.6.2). */
  #renumber(): void {
    for (const child of this.#below) child.rid = (child.rid & 0xff) | (this.secondary << 8);
  }

  /**
   * The requester id that requests from below carry further up, when it is not their own: a bridge to conventional PCI puts
   * its secondary bus, device 0, function 0 there (PCI-X bridge specification; pci_for_each_dma_alias).
   */
  get aliasOfDevicesBelow(): number | undefined {
    const above = this.upstream[0]?.aliasOfDevicesBelow;
    return above ?? (this.type === "PCIe to PCI bridge" ? this.secondary << 8 : undefined);
  }

  /** Hot reset or link down: everything behind goes through it. */
  resetBelow(kind: ConfigReset): void {
    for (const child of this.#below) child.reset(kind);
  }

  override reset(kind: ConfigReset): void {
    super.reset(kind);
    this.resetBelow(kind === "function" ? "hot" : kind);
  }

  override remove(): void {
    super.remove();
    for (const child of [...this.#below]) child.remove();
  }

  readBar(): boolean {
    return false;
  }

  writeBar(): boolean {
    return false;
  }

  onIntx(): void {}
}
