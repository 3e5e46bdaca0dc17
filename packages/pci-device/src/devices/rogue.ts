/**
 * A function that keeps no rule: it sends any request that its requester id lets through, with PASIDs and translated
 * addresses of its own invention, answers invalidations as it likes, and floods. For showing what an IOMMU and its driver
 * let such a device do. It cannot send under another function's id: that is Source Validation's business, not the IOMMU's.
 */
import {
  Access,
  AtsCompletion,
  type DevicePlugin,
  hi32,
  type InvalidateRequest,
  lo32,
  type PageRequest,
  type PrgResponse,
  parseBdf,
  physical,
  Translation,
  TranslationStatus,
} from "@iommukit/core";
import { type DevicePorts, devicePorts } from "../device-ports.js";
import type { FunctionOptions } from "../function-options.js";
import { PciDevice, type PlacementOptions } from "../pci-device.js";

/** For `rogue()`. */
export interface RogueOptions extends PlacementOptions {
  /** What becomes of Invalidate Requests: answered as they should be, not at all, or before anything is done. Default: honest. */
  readonly invalidations?: "honest" | "never" | "at once, keeping the translations";
}

const ROGUE: FunctionOptions = {
  vendor: 0x1234,
  device: 0x5a03,
  classCode: 0xff0000,
  functionLevelReset: true,
  ats: {},
  pri: {},
  pasid: { execute: true, privileged: true, translated: true },
};

/** The function that `rogue()` makes. */
export class Rogue extends PciDevice {
  /** Messages that it got from the IOMMU. */
  readonly invalidated: InvalidateRequest[] = [];
  readonly answered: PrgResponse[] = [];
  readonly #translation = new Translation();
  readonly #completion = new AtsCompletion();

  constructor(
    private readonly options: RogueOptions,
    ports: DevicePorts,
  ) {
    super(ROGUE, options, ports);
  }

  /** Any memory request. @param access Access bits, TRANSLATED and PRIV included. @returns whether bytes were moved */
  send(pasid: number, address: bigint, bytes: Uint8Array, access: number): boolean {
    const out = this.#translation;
    const status = this.ports.port.translate(this.rid, pasid, hi32(address), lo32(address), access, out);
    if (status !== TranslationStatus.OK) return false;
    const pa = physical(out.hi, out.lo);
    return (access & Access.WRITE) !== 0 ? this.ports.bus.write(pa, bytes) : this.ports.bus.read(pa, bytes);
  }

  /** A translation request. @returns the physical address when one was granted */
  ask(pasid: number, address: bigint, access: number): number | undefined {
    const out = this.#completion;
    const status = this.ports.port.translationRequest(this.rid, pasid, hi32(address), lo32(address), access, out);
    return status === 0 && (out.read || out.write) ? physical(out.hi, out.lo) : undefined;
  }

  request(request: Omit<PageRequest, "rid">): void {
    this.ports.port.pageRequest({ ...request, rid: this.rid });
  }

  complete(itagVector: number, count = 1): void {
    this.ports.port.invalidateCompletion({ rid: this.rid, itagVector: itagVector >>> 0, count });
  }

  override invalidate(request: InvalidateRequest): void {
    this.invalidated.push(request);
    if (this.options.invalidations === "never") return;
    if (this.options.invalidations === undefined || this.options.invalidations === "honest") super.invalidate(request);
    else this.complete(1 << request.itag);
  }

  override pageResponse(response: PrgResponse): void {
    this.answered.push(response);
  }

  protected override readRegion(): boolean {
    return false;
  }

  protected override writeRegion(): boolean {
    return false;
  }

  protected override resetDevice(): void {
    this.invalidated.length = 0;
    this.answered.length = 0;
  }
}

/** A device that keeps no rule, at `bdf`. */
export function rogue(options: RogueOptions): DevicePlugin {
  return {
    name: `rogue ${options.bdf}`,
    segment: parseBdf(options.bdf).segment,
    create: (container) => [new Rogue(options, devicePorts(container))],
  };
}
