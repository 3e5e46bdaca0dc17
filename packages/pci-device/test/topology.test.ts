import {
  Acs,
  type DevicePlugin,
  PCI_EXPRESS_CAPABILITY,
  type PciFunction,
  PortType,
  pciAcsPathEnabled,
  pciDeviceGroup,
  pciEetlpPrefixMax,
  pciEnablePasid,
  pciPcieType,
  pciResetBus,
  readField,
  Scheduler,
  SystemBus,
  Tracer,
  TranslationPort,
} from "@iommukit/core";
import { container as root } from "tsyringe";
import { describe, expect, it } from "vitest";
import { accelerator } from "../src/devices/accelerator/accelerator.js";
import { edu } from "../src/devices/edu.js";
import type { PciBridge } from "../src/pci-bridge.js";
import type { PciDevice } from "../src/pci-device.js";
import { behind, pcieToPciBridge, rootPort, switchDownstreamPort, switchUpstreamPort } from "../src/topology.js";
import { Bench } from "./support/bench.js";

function make(bench: Bench, ...plugins: DevicePlugin[]): Map<string, PciFunction> {
  const scope = root.createChildContainer();
  scope.registerInstance<TranslationPort>(TranslationPort, bench.iommu);
  scope.registerInstance<SystemBus>(SystemBus, bench.bus);
  scope.registerInstance<Scheduler>(Scheduler, bench.scheduler);
  scope.registerInstance(Tracer, bench.trace);
  return new Map(plugins.flatMap((plugin) => plugin.create(scope)).map((pci) => [pci.bdf, pci]));
}

function groups(functions: Map<string, PciFunction>): string[][] {
  const ids = new Map<PciFunction, number>();
  for (const pci of functions.values()) {
    const found = pciDeviceGroup(pci, (other) => ids.get(other), ids.keys());
    ids.set(pci, found ?? ids.size + 1);
  }
  const byId = new Map<number, string[]>();
  for (const [pci, id] of ids) byId.set(id, [...(byId.get(id) ?? []), pci.bdf.slice(5)]);
  return [...byId.values()];
}

const port = (bdf: string, secondary: number, ...devices: DevicePlugin[]) =>
  rootPort({ bdf: `0000:${bdf}`, secondary, devices });
const accel = (bdf: string) => accelerator({ bdf: `0000:${bdf}` });

describe("PCI topology", () => {
  it("makes bridges before what is behind them, each knowing those above it", () => {
    const functions = make(new Bench(), port("00:1c.0", 1, accel("01:00.0")));
    expect([...functions.keys()]).toEqual(["0000:00:1c.0", "0000:01:00.0"]);
    const device = functions.get("0000:01:00.0") as PciFunction;
    expect(device.upstream.map(({ bdf }) => bdf)).toEqual(["0000:00:1c.0"]);
    expect(pciPcieType(device)).toBe(PortType.endpoint);
    expect(pciEetlpPrefixMax(device)).toBeGreaterThan(0);
    expect(() => pciEnablePasid(device, 0)).not.toThrow();
  });

  it("is an integrated endpoint of the root complex without a bridge, as Intel DSA is", () => {
    const [device] = make(new Bench(), accel("6a:01.0")).values();
    expect(pciPcieType(device)).toBe(PortType["root complex integrated endpoint"]);
  });

  it("refuses PASID where a port does not pass prefixes or does not redirect (I4)", () => {
    const noPrefix = make(
      new Bench(),
      rootPort({ bdf: "0000:00:1c.0", secondary: 1, tlpPrefixes: false, devices: [accel("01:00.0")] }),
    );
    expect(() => pciEnablePasid(noPrefix.get("0000:01:00.0") as PciFunction, 0)).toThrow("prefixes");
    const noAcs = make(
      new Bench(),
      rootPort({
        bdf: "0000:00:1c.0",
        secondary: 1,
        acs: { supported: 0x1d, enabled: 0 },
        devices: [accel("01:00.0")],
      }),
    );
    expect(() => pciEnablePasid(noAcs.get("0000:01:00.0") as PciFunction, 0)).toThrow("ACS");
  });

  it("separates devices behind ports with ACS; without it, a device shares its port's group and gets no PASID (I14)", () => {
    const behindSwitch = (acs?: null) =>
      switchUpstreamPort({
        bdf: "0000:01:00.0",
        secondary: 2,
        devices: [
          switchDownstreamPort({ bdf: "0000:02:00.0", secondary: 3, acs, devices: [accel("03:00.0")] }),
          switchDownstreamPort({ bdf: "0000:02:01.0", secondary: 4, acs, devices: [accel("04:00.0")] }),
        ],
      });
    const isolated = groups(make(new Bench(), port("00:1c.0", 1, behindSwitch())));
    expect(isolated).toHaveLength(6);
    const open = make(new Bench(), port("00:1c.0", 1, behindSwitch(null)));
    // Linux looks at each port alone: that two ports of one switch can reach each other does not join their groups.
    expect(groups(open)).toContainEqual(["02:00.0", "03:00.0"]);
    const device = open.get("0000:03:00.0") as PciFunction;
    expect(pciAcsPathEnabled(device, Acs.RR | Acs.UF)).toBe(false);
    expect(() => pciEnablePasid(device, 0)).toThrow("ACS");
  });

  it("puts the functions of a device without ACS into one group", () => {
    const functions = [0, 1].map((fn) => edu({ bdf: `0000:00:09.${fn}`, multiFunction: true }));
    expect(groups(make(new Bench(), ...functions, edu({ bdf: "0000:00:05.0" })))).toEqual([
      ["00:09.0", "00:09.1"],
      ["00:05.0"],
    ]);
  });

  it("gives everything behind a bridge to conventional PCI the bridge's requester id, and one group", () => {
    const bench = new Bench();
    const functions = make(
      bench,
      pcieToPciBridge({
        bdf: "0000:00:1e.0",
        secondary: 5,
        devices: [edu({ bdf: "0000:05:03.0" }), edu({ bdf: "0000:05:04.0" })],
      }),
    );
    const device = functions.get("0000:05:04.0") as PciDevice;
    device.writeConfig(4, 2, 6);
    device.dma.tryRead(-1, 0x1000n, new Uint8Array(8));
    expect(bench.iommu.translations[0].rid).toBe(0x500);
    expect(groups(functions)).toHaveLength(1);
  });

  it("stops requests at a bridge without Bus Master Enable", () => {
    const bench = new Bench();
    const functions = make(bench, port("00:1c.0", 1, accel("01:00.0")));
    const device = functions.get("0000:01:00.0") as PciDevice;
    device.writeConfig(4, 2, 6);
    functions.get("0000:00:1c.0")?.writeConfig(4, 2, 2);
    expect(device.mayMaster).toBe(false);
  });

  it("follows a bus that software renumbers: requests carry the new id (I15)", () => {
    const bench = new Bench();
    const functions = make(bench, port("00:1c.0", 1, accel("01:00.0")));
    const device = functions.get("0000:01:00.0") as PciDevice;
    device.writeConfig(4, 2, 6);
    functions.get("0000:00:1c.0")?.writeConfig(0x19, 1, 0x17);
    device.dma.tryRead(-1, 0x1000n, new Uint8Array(8));
    expect([device.bdf, device.rid, bench.iommu.translations[0].rid]).toEqual(["0000:17:00.0", 0x1700, 0x1700]);
  });

  it("resets everything behind a bridge while Secondary Bus Reset is set", () => {
    const functions = make(new Bench(), port("00:1c.0", 1, accel("01:00.0")));
    const device = functions.get("0000:01:00.0") as PciDevice;
    device.writeConfig(4, 2, 6);
    functions.get("0000:00:1c.0")?.writeConfig(0x3e, 2, 0x40);
    expect(device.readConfig(4, 2)).toBe(0);
    expect(device.barAddress(0)).toBe(0);
  });

  it("gives everything behind a bridge its setup back after pci_reset_bus: PASID, PRI and ATS too (I12)", async () => {
    const bench = new Bench();
    const functions = make(bench, port("00:1c.0", 1, accel("01:00.0"), accel("01:01.0")));
    const [bridge, ...behind] = [...functions.values()];
    const devices = behind as PciDevice[];
    for (const device of devices) bench.enable(device, 8);
    const setup = () =>
      devices.map((device) => [
        device.readConfig(4, 2),
        device.barAddress(0),
        device.pasid.enabled,
        device.pri?.allocation,
        device.pri?.usable,
        device.ats?.enabled,
      ]);
    const before = setup();
    const resets: string[] = [];
    bench.trace.subscribe(({ name }) => {
      if (name === "device:reset") resets.push(name);
    });
    await bench.run(() => pciResetBus(bridge, devices, bench.scheduler));
    expect(resets).toHaveLength(2);
    expect(setup()).toEqual(before);
    expect(
      before.every(([command, , pasid, credits, pri, ats]) => command === 6 && pasid && credits === 8 && pri && ats),
    ).toBe(true);
  });

  it("shows in the slot that a device came and was torn out", () => {
    const bench = new Bench();
    const functions = make(bench, rootPort({ bdf: "0000:00:1c.0", secondary: 1, slot: 7 }));
    const slot = functions.get("0000:00:1c.0") as PciBridge;
    const at = slot.capabilities.pcie;
    const state = () => [
      readField(slot, at, PCI_EXPRESS_CAPABILITY.PresenceDetectState),
      readField(slot, at, PCI_EXPRESS_CAPABILITY.PresenceDetectChanged),
    ];
    expect(state()).toEqual([0, 0]);
    const [device] = make(bench, behind(slot, accel("01:00.0"))).values() as Iterable<PciDevice>;
    expect(state()).toEqual([1, 1]);
    slot.writeConfig(at + 0x1a, 2, 8);
    expect(state()).toEqual([1, 0]);
    device.remove();
    expect(state()).toEqual([0, 1]);
    expect(device.readConfig(0, 4)).toBe(0xffff_ffff);
    expect(device.readBar(0, 0, new Uint8Array(4))).toBe(false);
  });
});
