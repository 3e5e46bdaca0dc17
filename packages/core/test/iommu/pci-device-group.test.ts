import { describe, expect, it } from "vitest";
import type { PciFunction } from "../../src/index.js";
import { pciDeviceGroup } from "../../src/iommu/pci-device-group.js";
import { PortType } from "../../src/pci/capabilities/pci-express.js";
import { FakePciFunction } from "../../src/testing/index.js";

interface Shape {
  readonly type?: keyof typeof PortType;
  /** ACS that isolates, ACS that does not, or none. */
  readonly acs?: "on" | "off";
  readonly multi?: boolean;
  readonly upstream?: readonly PciFunction[];
}

function pci(bdf: string, { type = "endpoint", acs, multi = false, upstream = [] }: Shape = {}): FakePciFunction {
  const config: Record<number, number> = { 6: 0x10, 52: 0x40, 64: 0x10, 66: (PortType[type] << 4) | 2 };
  if (multi) config[0x0e] = 0x80;
  if (acs) Object.assign(config, { 256: 0x0d, 258: 0x01, 260: 0x1d, 262: acs === "on" ? 0x1d : 0 });
  return new FakePciFunction(bdf, { config, upstream });
}

/** A function without any capability: conventional PCI. */
const conventional = (bdf: string, upstream: readonly PciFunction[] = []) => new FakePciFunction(bdf, { upstream });

/** Numbers the groups of functions that come one after the other. */
function groups(...functions: readonly PciFunction[]): number[] {
  const byFunction = new Map<PciFunction, number>();
  let next = 1;
  return functions.map((one) => {
    const group = pciDeviceGroup(one, (other) => byFunction.get(other), byFunction.keys()) ?? next++;
    byFunction.set(one, group);
    return group;
  });
}

describe("pci_device_group", () => {
  it("isolates single-function endpoints below root ports with ACS (I14)", () => {
    const ports = [
      pci("0000:00:01.0", { type: "root port", acs: "on" }),
      pci("0000:00:02.0", { type: "root port", acs: "on" }),
    ];
    const below = ports.map((port, i) => pci(`0000:0${i + 1}:00.0`, { upstream: [port] }));
    expect(groups(...ports, ...below)).toEqual([1, 2, 3, 4]);
  });

  it("puts an endpoint into the group of a port above it that does not isolate (I14) (I16)", () => {
    const port = pci("0000:00:01.0", { type: "root port", acs: "off" });
    expect(groups(port, pci("0000:01:00.0", { upstream: [port] }))).toEqual([1, 1]);
    const plain = pci("0000:00:01.0", { type: "root port" });
    expect(groups(plain, pci("0000:01:00.0", { upstream: [plain] }))).toEqual([1, 1]);
  });

  it("joins all that is behind one switch whose downstream ports do not isolate (I14)", () => {
    const root = pci("0000:00:01.0", { type: "root port", acs: "on" });
    const up = pci("0000:01:00.0", { type: "upstream port", upstream: [root] });
    const down = [0, 1].map((i) => pci(`0000:02:0${i}.0`, { type: "downstream port", upstream: [up, root] }));
    const ends = down.map((port, i) => pci(`0000:0${i + 3}:00.0`, { upstream: [port, up, root] }));
    expect(groups(root, up, ...down, ...ends)).toEqual([1, 2, 3, 4, 3, 4]);
  });

  it("isolates behind a switch whose ports all have ACS (I14)", () => {
    const root = pci("0000:00:01.0", { type: "root port", acs: "on" });
    const up = pci("0000:01:00.0", { type: "upstream port", upstream: [root] });
    const down = [0, 1].map((i) =>
      pci(`0000:02:0${i}.0`, { type: "downstream port", acs: "on", upstream: [up, root] }),
    );
    const ends = down.map((port, i) => pci(`0000:0${i + 3}:00.0`, { upstream: [port, up, root] }));
    expect(groups(root, up, ...down, ...ends)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it("joins the functions of a multi-function device without ACS, and isolates those with it (I14)", () => {
    const both = (acs?: "on" | "off") => [0, 1].map((fn) => pci(`0000:05:00.${fn}`, { multi: true, acs }));
    expect(groups(...both())).toEqual([1, 1]);
    expect(groups(...both("off"))).toEqual([1, 1]);
    expect(groups(...both("on"))).toEqual([1, 2]);
  });

  it("leaves functions of other slots, buses and segments alone (I14)", () => {
    const names = ["0000:05:00.0", "0000:05:01.0", "0000:06:00.0", "0001:05:00.0"];
    expect(groups(...names.map((name) => pci(name, { multi: true })))).toEqual([1, 2, 3, 4]);
  });

  it("joins what is behind a PCIe to PCI bridge, whose requester id all requests carry (I14)", () => {
    const root = pci("0000:00:01.0", { type: "root port", acs: "on" });
    const bridge = pci("0000:01:00.0", { type: "PCIe to PCI bridge", upstream: [root] });
    const behind = [0, 1].map((i) => conventional(`0000:02:0${i}.0`, [bridge, root]));
    expect(groups(root, bridge, ...behind)).toEqual([1, 2, 2, 2]);
  });

  it("gives conventional functions on a root bus groups of their own (I14)", () => {
    expect(groups(conventional("0000:00:03.0"), conventional("0000:00:04.0"))).toEqual([1, 2]);
  });
});
