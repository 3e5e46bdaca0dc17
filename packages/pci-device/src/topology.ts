/**
 * PCI hierarchies as plugins: what stands behind a bridge is made with the bridge above it, and is found by software
 * behind it. `rootPort({ bdf: "0000:00:1c.0", secondary: 1, devices: [accelerator({ bdf: "0000:01:00.0" })] })`.
 */
import { type DevicePlugin, type PciFunction, parseBdf } from "@iommukit/core";
import type { DependencyContainer } from "tsyringe";
import { UpstreamBridges } from "./device-ports.js";
import { type BridgeOptions, type BridgeType, PciBridge } from "./pci-bridge.js";

/** A bridge with what stands behind it. */
export interface BridgePluginOptions extends Omit<BridgeOptions, "type"> {
  /** What is on the bus behind it: devices and further bridges. */
  readonly devices?: readonly DevicePlugin[];
}

function scopeBehind(container: DependencyContainer, chain: readonly PciBridge[]): DependencyContainer {
  const scope = container.createChildContainer();
  scope.registerInstance(UpstreamBridges, chain);
  return scope;
}

function bridge(type: BridgeType, options: BridgePluginOptions): DevicePlugin {
  return {
    name: `${type} ${options.bdf}`,
    segment: parseBdf(options.bdf).segment,
    create(container): readonly PciFunction[] {
      const above = container.isRegistered(UpstreamBridges, true) ? container.resolve(UpstreamBridges) : [];
      const made = new PciBridge({ ...options, type }, above);
      const scope = scopeBehind(container, [made, ...above]);
      return [made, ...(options.devices ?? []).flatMap((device) => device.create(scope))];
    },
  };
}

/** A root port, and the devices on its secondary bus. */
export function rootPort(options: BridgePluginOptions): DevicePlugin {
  return bridge("root port", options);
}

/** A switch is an upstream port with downstream ports behind it. */
export function switchUpstreamPort(options: BridgePluginOptions): DevicePlugin {
  return bridge("upstream port", options);
}

/** A switch's downstream port: `devices` of the upstream port. */
export function switchDownstreamPort(options: BridgePluginOptions): DevicePlugin {
  return bridge("downstream port", options);
}

/** Everything behind it shares one requester id: its secondary bus, device 0, function 0. */
export function pcieToPciBridge(options: BridgePluginOptions): DevicePlugin {
  return bridge("PCIe to PCI bridge", options);
}

/** The same device behind a bridge that is there already: what `platform.plug` takes for a hot-plug. */
export function behind(port: PciBridge, device: DevicePlugin): DevicePlugin {
  return {
    name: device.name,
    segment: device.segment,
    create: (container) => device.create(scopeBehind(container, [port, ...port.upstream])),
  };
}

/** Several plugins as one: the functions of a device, which come and go together. */
export function together(name: string, devices: readonly DevicePlugin[]): DevicePlugin {
  return {
    name,
    segment: devices[0].segment,
    create: (container) => devices.flatMap((device) => device.create(container)),
  };
}
