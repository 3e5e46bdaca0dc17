/** A PCI device, or a bridge with what is behind it, as a plugin. */
import type { DependencyContainer } from "tsyringe";
import type { PciFunction } from "../pci/pci-function.js";

/** For `createPlatform({ devices })` and `platform.plug`. */
export interface DevicePlugin {
  readonly name: string;
  /** PCI segment: which of the platform's IOMMUs is in front of it. */
  readonly segment: number;
  /**
   * @param container resolves TranslationPort (of that segment), SystemBus, Scheduler, Tracer
   * @returns every function of the device; bridges before what is behind them
   */
  create(container: DependencyContainer): readonly PciFunction[];
}
