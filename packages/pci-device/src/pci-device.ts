/**
 * An endpoint function: configuration space with its side effects, ATS, PRI and PASID, interrupts and a DMA engine.
 * Devices extend it with what is behind their BARs.
 */
import {
  type CachedEntry,
  type InvalidateRequest,
  PCI_EXPRESS_CAPABILITY,
  type PciBar,
  POWER_MANAGEMENT_CAPABILITY,
  type PrgResponse,
  type RequesterPort,
  TYPE0_HEADER,
} from "@iommukit/core";
import { AtsUnit } from "./ats-unit.js";
import { BarDecoder, barAddress } from "./bar-decoder.js";
import { buildEndpointConfig, FIRST_BAR_WORD } from "./build-config.js";
import type { ConfigReset } from "./config-space.js";
import type { DevicePorts } from "./device-ports.js";
import { DmaEngine, type DmaEngineOptions } from "./dma-engine.js";
import type { DmaRequester } from "./dma-transfer.js";
import type { FunctionOptions, MsixOptions, SriovOptions } from "./function-options.js";
import { Interrupts } from "./interrupts.js";
import { MmioWindow } from "./mmio-window.js";
import { PageRequestInterface } from "./page-requests.js";
import { PasidState } from "./pasid-state.js";
import { PciFunctionBase } from "./pci-function-base.js";
import { placeVirtualBars, virtualBarAddress, virtualMemoryEnabled } from "./sriov-bars.js";
import { priStatus, wireAts, wirePasid, wirePri } from "./translation-services.js";

/** Where a device sits and how it behaves: what users of every device may choose. */
export interface PlacementOptions {
  /** "0000:01:00.0"; the segment says behind which of the platform's IOMMUs it is. */
  readonly bdf: string;
  /** The device has functions other than 0. */
  readonly multiFunction?: boolean;
  readonly dma?: Partial<DmaEngineOptions>;
  /** Behind an external-facing port: Linux keeps ATS off. */
  readonly untrusted?: boolean;
  /**
   * Nanoseconds that a function level or a hot reset takes: meanwhile reads of configuration space give all ones, and messages of
   * the IOMMU are lost. PCIe allows 100 ms (6.6.2). Default: none.
   */
  readonly resetTime?: number;
  /** What firmware leaves behind: addresses of the BARs (chosen by the platform when absent), and two registers. */
  readonly firmware?: {
    readonly bars?: Readonly<Record<number, number>>;
    /** Default: I/O and memory space enabled. */
    readonly command?: number;
    readonly interruptLine?: number;
  };
}

const IO_AND_MEMORY = 3;
const D0 = 0;
const D3HOT = 3;

/** Derive a device from it: `readRegion`, `writeRegion` and `resetDevice` are all that is missing. */
export abstract class PciDevice extends PciFunctionBase implements RequesterPort, DmaRequester {
  readonly bars: readonly PciBar[];
  readonly ats: AtsUnit | undefined;
  readonly pri: PageRequestInterface | undefined;
  readonly pasid: PasidState;
  readonly dma: DmaEngine;
  readonly interrupts: Interrupts;
  readonly untrusted: boolean;
  /** Set on a VF: the function whose PRI and PASID capabilities it shares (PCIe 9.3.7). */
  readonly physicalFunction: PciDevice | undefined;
  readonly #msix: MsixOptions | undefined;
  readonly #sriov: SriovOptions | undefined;
  readonly #decoder: BarDecoder;
  readonly #resetTime: number;
  /** Resets that are not over. */
  #resetting = 0;
  /** PowerState of the power management capability. */
  #powerState = D0;

  constructor(
    options: FunctionOptions,
    placement: PlacementOptions,
    protected readonly ports: DevicePorts,
    physicalFunction?: PciDevice,
  ) {
    const portType = ports.upstream.length > 0 ? "endpoint" : "root complex integrated endpoint";
    const [config, capabilities] = buildEndpointConfig(
      { portType, ...options },
      placement.multiFunction ?? false,
      physicalFunction !== undefined,
    );
    super(placement.bdf, config, capabilities, ports.upstream);
    const { port, bus, scheduler, trace } = ports;
    this.bars = options.bars ?? [];
    this.untrusted = placement.untrusted ?? false;
    this.#resetTime = placement.resetTime ?? 0;
    this.physicalFunction = physicalFunction;
    this.#msix = options.msix;
    this.#sriov = options.sriov;
    this.pasid = physicalFunction?.pasid ?? new PasidState(options.pasid ? 2 ** (options.pasid.width ?? 20) : 0);
    if (options.ats) {
      const { sets = 64, ways = 4, completions = 1, completionDelay = 0, globalInvalidate = true } = options.ats;
      this.ats = new AtsUnit(
        placement.bdf,
        () => this.rid,
        { sets, ways, completions, completionDelay, globalInvalidate },
        port,
        scheduler,
        trace,
      );
      wireAts(config, capabilities.ats, this.ats, physicalFunction?.ats);
    }
    if (options.pri) {
      const { timeout = 0, pasidRequired = true } = options.pri;
      const status = priStatus(config, capabilities.pri);
      this.pri = new PageRequestInterface(placement.bdf, { timeout, pasidRequired }, status, port, scheduler, trace);
      wirePri(config, capabilities.pri, this.pri);
    } else this.pri = physicalFunction?.pri;
    if (capabilities.pasid !== 0) wirePasid(config, capabilities.pasid, this.pasid, this.ats);
    const engine = { pagesPerRequest: 1, split: false, ...placement.dma };
    this.dma = new DmaEngine(this, this.pri, engine, port, bus, scheduler, trace);
    this.interrupts = new Interrupts(config, capabilities.msi, capabilities.msix, (hi, lo, data) =>
      this.dma.message(hi, lo, data),
    );
    if (capabilities.pcie !== 0) this.#wireTransactionsPending(capabilities.pcie);
    if (capabilities.pm !== 0) this.#wirePowerState(capabilities.pm);
    this.#decoder = new BarDecoder(this, bus);
    for (const at of [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24]) config.onWrite(at, () => this.#decoder.update());
    config.onWrite(4, () => this.#decoder.update());
    this.#setUpAsFirmware(placement.firmware ?? {}, MmioWindow.of(bus));
  }

  #setUpAsFirmware(
    { bars, command, interruptLine }: NonNullable<PlacementOptions["firmware"]>,
    window: MmioWindow,
  ): void {
    if (this.physicalFunction) return;
    if (this.#sriov) placeVirtualBars(this, this.#sriov.bars ?? [], window);
    for (const bar of this.bars) {
      const address = bars?.[bar.index] ?? (bar.index === 6 ? 0 : window.allocate(bar));
      const at = bar.index === 6 ? 0x30 : 0x10 + 4 * bar.index;
      this.writeConfig(at, 4, address % 2 ** 32);
      if (bar.kind === "mem64") this.writeConfig(at + 4, 4, Math.floor(address / 2 ** 32));
    }
    this.writeConfig(0x3c, 1, interruptLine ?? 0);
    this.writeConfig(4, 2, command ?? IO_AND_MEMORY);
  }

  /** Physical address of a BAR; 0 when it has not been placed. */
  barAddress(index: number): number {
    const bar = this.bars.find((candidate) => candidate.index === index);
    return bar ? this.addressOf(bar) : 0;
  }

  addressOf(bar: PciBar): number {
    return this.physicalFunction
      ? virtualBarAddress(this.physicalFunction, this.rid, bar)
      : barAddress(this.config.words, FIRST_BAR_WORD + bar.index, bar);
  }

  get memorySpaceEnabled(): boolean {
    const { config, physicalFunction } = this;
    return physicalFunction
      ? virtualMemoryEnabled(physicalFunction)
      : TYPE0_HEADER.MemorySpaceEnable.get(config.words) === 1;
  }

  /** What decides about its BARs has changed elsewhere. */
  updateBars(): void {
    this.#decoder.update();
  }

  get requester(): RequesterPort {
    return this;
  }

  /** Behind a bridge to conventional PCI, all requests carry the bridge's id (I14). */
  get requesterId(): number {
    return this.upstream.length === 0 ? this.rid : (this.upstream[0].aliasOfDevicesBelow ?? this.rid);
  }

  #wireTransactionsPending(at: number): void {
    const { word, lowMask } = PCI_EXPRESS_CAPABILITY.TransactionsPending;
    const index = at / 4 + word;
    this.config.beforeRead(index * 4, () => {
      this.config.words[index] = (this.config.words[index] & ~lowMask) | (this.dma.pending > 0 ? lowMask : 0);
    });
  }

  /** In D3hot the function answers configuration accesses only; on the way back to D0 it loses its state (PCIe 5.3.1.4). */
  #wirePowerState(at: number): void {
    const { words } = this.config;
    const { PowerState, NoSoftReset, D1Support, D2Support } = POWER_MANAGEMENT_CAPABILITY;
    const supported = [true, D1Support.get(words, at / 4) === 1, D2Support.get(words, at / 4) === 1, true];
    this.config.onWrite(at + 4, () => {
      const before = this.#powerState;
      const written = PowerState.get(words, at / 4);
      // A state that the function does not have is as if it had not been written (PCIe 7.5.2.2).
      this.#powerState = supported[written] ? written : before;
      PowerState.set(words, at / 4, this.#powerState);
      if (before === D3HOT && this.#powerState === D0 && NoSoftReset.get(words, at / 4) === 0) this.reset("function");
      this.#decoder.update();
    });
  }

  protected override get answers(): boolean {
    return super.answers && this.#resetting === 0;
  }

  override get mayMaster(): boolean {
    return this.#powerState !== D3HOT && super.mayMaster;
  }

  // Messages from the IOMMU.

  invalidate(request: InvalidateRequest): void {
    if (this.answers) this.ats?.invalidate(request);
  }

  pageResponse(response: PrgResponse): void {
    if (this.answers) this.pri?.respond(response);
  }

  stallResolved(stag: number, action: "retry" | "terminate" | "abort"): void {
    this.dma.stallResolved(stag, action);
  }

  /** The device stops using a PASID: its transfers end, then a Stop Marker tells that no page request follows. */
  async stopPasid(pasid: number): Promise<void> {
    await this.dma.cancel((transfer) => transfer.pasid === pasid);
    this.pri?.sendStopMarker(this.requesterId, pasid);
  }

  // BARs. Table and pending bits of MSI-X are in one of them; the rest is the device's.

  readBar(bar: number, offset: number, into: Uint8Array): boolean {
    if (!this.#decodes(bar, offset, into.length)) return false;
    const part = this.#msixPart(bar, offset, into.length);
    if (part === undefined) return this.readRegion(bar, offset, into);
    if (part.kind === "table") this.interrupts.readTable(part.offset, into);
    else this.interrupts.readPending(part.offset, into);
    return true;
  }

  writeBar(bar: number, offset: number, bytes: Uint8Array): boolean {
    if (!this.#decodes(bar, offset, bytes.length)) return false;
    const part = this.#msixPart(bar, offset, bytes.length);
    if (part === undefined) return this.writeRegion(bar, offset, bytes);
    if (part.kind === "table") this.interrupts.writeTable(part.offset, bytes);
    return true;
  }

  #decodes(index: number, offset: number, length: number): boolean {
    const bar = this.bars.find((candidate) => candidate.index === index);
    if (bar === undefined || !this.answers || this.#powerState === D3HOT || offset < 0 || offset + length > bar.size)
      return false;
    return bar.kind === "io" ? TYPE0_HEADER.IOSpaceEnable.get(this.config.words) === 1 : this.memorySpaceEnabled;
  }

  #msixPart(
    bar: number,
    offset: number,
    length: number,
  ): { readonly kind: "table" | "pending"; readonly offset: number } | undefined {
    const msix = this.#msix;
    if (msix === undefined || msix.bar !== bar) return undefined;
    const { table, pending } = this.interrupts;
    if (offset >= msix.table && offset + length <= msix.table + table.byteLength)
      return { kind: "table", offset: offset - msix.table };
    if (offset >= msix.pba && offset + length <= msix.pba + pending.byteLength)
      return { kind: "pending", offset: offset - msix.pba };
    return undefined;
  }

  /** Registers and memory behind a BAR, MSI-X aside. @returns false for an offset or width that does not decode */
  protected abstract readRegion(bar: number, offset: number, into: Uint8Array): boolean;
  protected abstract writeRegion(bar: number, offset: number, bytes: Uint8Array): boolean;
  /** The device forgets what it was doing. Transfers under way have been cancelled. */
  protected abstract resetDevice(kind: ConfigReset): void;

  onIntx(listener: (asserted: boolean) => void): void {
    this.interrupts.onPin(listener);
  }

  override reset(kind: ConfigReset): void {
    super.reset(kind);
    this.#powerState = D0;
    this.dma.cancelAll();
    this.ats?.reset();
    if (this.physicalFunction === undefined) {
      this.pri?.disable();
      this.pri?.reset();
      this.pasid.set(0);
    } else this.pri?.forget(this.requesterId);
    this.interrupts.reset();
    this.#decoder.update();
    this.resetDevice(kind);
    const { trace, scheduler } = this.ports;
    if (trace.enabled) trace.emit("device:reset", { device: this.bdf, rid: this.rid, kind });
    if (kind === "cold" || this.#resetTime === 0) return;
    this.#resetting++;
    scheduler.timer(this.#resetTime, () => {
      this.#resetting--;
    });
  }

  cachedTranslations(pasid: number): number {
    return this.ats?.atc.count(pasid) ?? 0;
  }

  cacheContents(): readonly CachedEntry[] {
    return [...(this.ats?.atc.contents() ?? [])];
  }

  override remove(): void {
    super.remove();
    this.#decoder.update();
    this.dma.cancelAll();
    this.ats?.reset();
    if (this.physicalFunction === undefined) this.pri?.reset();
    else this.pri?.forget(this.requesterId);
    const { trace } = this.ports;
    if (trace.enabled) trace.emit("device:reset", { device: this.bdf, rid: this.rid, kind: "removal" });
  }
}
