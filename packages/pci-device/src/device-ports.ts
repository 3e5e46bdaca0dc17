/** What a function is connected to: its IOMMU, memory, time, the trace, and the bridges above it. */
import { Scheduler, SystemBus, Tracer, TranslationPort, token } from "@iommukit/core";
import type { DependencyContainer } from "tsyringe";
import type { PciBridge } from "./pci-bridge.js";

/** Bridges above the devices that a container makes, nearest first. Registered by bridges for what is behind them. */
export const UpstreamBridges = token<readonly PciBridge[]>("UpstreamBridges");

/** What a device's constructor passes on to PciDevice. */
export interface DevicePorts {
  readonly port: TranslationPort;
  readonly bus: SystemBus;
  readonly scheduler: Scheduler;
  readonly trace: Tracer;
  readonly upstream: readonly PciBridge[];
}

/** In a DevicePlugin's `create`. */
export function devicePorts(container: DependencyContainer): DevicePorts {
  return {
    port: container.resolve(TranslationPort),
    bus: container.resolve(SystemBus),
    scheduler: container.resolve(Scheduler),
    trace: container.resolve(Tracer),
    upstream: container.isRegistered(UpstreamBridges, true) ? container.resolve(UpstreamBridges) : [],
  };
}
