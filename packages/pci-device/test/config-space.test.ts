import {
  ACS_CAPABILITY,
  Acs,
  type AnyLayout,
  ATS_CAPABILITY,
  findCapability,
  findExtendedCapability,
  MSI64_MASKED_CAPABILITY,
  PASID_CAPABILITY,
  PCI_EXPRESS_CAPABILITY,
  POWER_MANAGEMENT_CAPABILITY,
  SRIOV_CAPABILITY,
  TYPE0_HEADER,
} from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { decodeConfig, encodeConfig } from "../src/config-image.js";
import { ConfigSpace } from "../src/config-space.js";
import { PciBridge } from "../src/pci-bridge.js";
import { Bench, RAM } from "./support/bench.js";
import { probe } from "./support/probe.js";

const CAPABILITIES: readonly AnyLayout[] = [
  PCI_EXPRESS_CAPABILITY,
  POWER_MANAGEMENT_CAPABILITY,
  MSI64_MASKED_CAPABILITY,
  ACS_CAPABILITY,
  ATS_CAPABILITY,
  PASID_CAPABILITY,
  SRIOV_CAPABILITY,
];

describe("configuration space", () => {
  it("chains capabilities below 0x100 and from 0x100 on (I1)", () => {
    const device = probe(new Bench());
    expect([findCapability(device, 1), findCapability(device, 0x10), findCapability(device, 5)]).toEqual([
      0x40, 0x48, 0x84,
    ]);
    expect([0x0f, 0x13, 0x1b].map((id) => findExtendedCapability(device, id))).toEqual([0x100, 0x110, 0x120]);
    expect(findExtendedCapability(device, 0x10)).toBe(0);
  });

  it("changes only what software may change", () => {
    const device = probe(new Bench());
    device.writeConfig(0, 4, 0xffff_ffff);
    expect(device.readConfig(0, 4)).toBe(0x5aff_1234);
    device.writeConfig(4, 2, 0xffff);
    // I/O, memory, bus master, parity, SERR, INTx disable.
    expect(device.readConfig(4, 2)).toBe(0x0547);
  });

  it("has the control fields that its capability fields speak of, and zeros for the others", () => {
    const device = probe(new Bench(), { acs: { supported: Acs.RR | Acs.UF, enabled: 0 } });
    const { acs, ats, msi, pasid, pcie, pm } = device.capabilities;
    const ones = (at: number, width: 2 | 4) => {
      device.writeConfig(at, width, width === 4 ? 0xffff_ffff : 0xffff);
      return device.readConfig(at, width).toString(16);
    };
    // An integrated endpoint: no link, no slot, no root; of Device Control 2 timeouts off, atomics, ID-based ordering.
    expect([0x10, 0x18, 0x1c, 0x28, 0x30, 0x38].map((at) => ones(pcie + at, 2))).toEqual([
      "0",
      "0",
      "0",
      "350",
      "0",
      "0",
    ]);
    // 32-bit data and vectors beyond the four are not there.
    expect([ones(msi + 2, 2), ones(msi + 12, 4), ones(msi + 16, 4)]).toEqual(["1f5", "ffff", "f"]);
    expect(ones(acs + 6, 2)).toBe((Acs.RR | Acs.UF).toString(16));
    expect(ones(pasid + 6, 2)).toBe("7");
    expect(ones(ats + 6, 2)).toBe("801f");
    // Neither PME nor a Data register.
    expect(ones(pm + 4, 2)).toBe("3");
  });

  it("of a bridge says the kind of its windows in bits that cannot be written (PCIe 7.5.1.3)", () => {
    const port = new PciBridge({ bdf: "00:01.0", type: "root port", secondary: 1, slot: 3 }, []);
    for (const at of [0x1c, 0x20, 0x24, 0x28, 0x2c, 0x30]) port.writeConfig(at, 4, 0xffff_ffff);
    expect([0x1c, 0x20, 0x24, 0x28, 0x2c, 0x30].map((at) => port.readConfig(at, 4).toString(16))).toEqual([
      "f0f0",
      "fff0fff0",
      "fff1fff1",
      "ffffffff",
      "ffffffff",
      "0",
    ]);
    const { acs, pcie } = port.capabilities;
    for (const at of [acs + 6, pcie + 0x18, pcie + 0x1c]) port.writeConfig(at, 2, 0xffff);
    // Presence, hot plug and link state are all that this slot interrupts for.
    expect([acs + 6, pcie + 0x18, pcie + 0x1c].map((at) => port.readConfig(at, 2).toString(16))).toEqual([
      "1d",
      "3028",
      "f",
    ]);
  });

  it.each(CAPABILITIES.map((table) => [table.name, table] as const))(
    "has in %s the fields that others need",
    (_, table) => {
      const named = table.fields.flatMap(({ spec }) => Object.keys(spec.needs ?? {}));
      const known = table.fields.map(({ name }) => name);
      expect(named.filter((name) => !known.includes(name))).toEqual([]);
    },
  );

  it("clears error bits by writing one, and only those", () => {
    const config = new ConfigSpace(256);
    config.place(TYPE0_HEADER, 0);
    config.words[1] |= 0x3000 << 16;
    config.write(6, 2, 0x1000);
    expect(config.read(6, 2)).toBe(0x2000);
    config.write(7, 1, 0x20);
    expect(config.read(6, 2)).toBe(0);
  });

  it("tells the size of a BAR when ones are written (PCIe 7.5.1.2.1)", () => {
    const config = new ConfigSpace(256);
    config.place(TYPE0_HEADER, 0);
    config.placeBar(4, { index: 0, size: 0x4000, kind: "mem32", prefetchable: false });
    config.placeBar(5, { index: 1, size: 2 ** 33, kind: "mem64", prefetchable: true });
    config.placeBar(7, { index: 3, size: 0x20, kind: "io", prefetchable: false });
    for (let at = 0x10; at < 0x20; at += 4) config.write(at, 4, 0xffff_ffff);
    expect([0x10, 0x14, 0x18, 0x1c].map((at) => config.read(at, 4).toString(16))).toEqual([
      "ffffc000",
      "c",
      "fffffffe",
      "ffffffe1",
    ]);
  });

  it("answers with ones beyond its end", () => {
    const config = new ConfigSpace(256);
    expect([config.read(0x100, 4), config.read(0x200, 2), config.read(0xfff, 1)]).toEqual([0xffff_ffff, 0xffff, 0xff]);
  });

  it("keeps sticky fields over a hot reset, the link's setup over a function level reset, nothing over power-on", () => {
    const config = new ConfigSpace(4096);
    config.place(PCI_EXPRESS_CAPABILITY, 0x40, { MaxPayloadSizeSupported: 1, MaxLinkSpeed: 1 });
    const set = () => {
      config.write(0x48, 2, 0x0420 | (3 << 12));
      config.write(0x50, 2, 0x0003);
    };
    const values = () => [config.read(0x48, 2), config.read(0x50, 2)];
    set();
    config.reset("function");
    // Max Payload Size, Aux Power PM Enable and ASPM stay; Max Read Request Size is back at 512.
    expect(values()).toEqual([0x2c30, 3]);
    set();
    config.reset("hot");
    expect(values()).toEqual([0x2c10, 0]);
    config.reset("cold");
    expect(values()).toEqual([0x2810, 0]);
  });

  it("is the same after it has been taken apart and put together", () => {
    const device = probe(new Bench());
    const bytes = new Uint8Array(device.config.words.buffer.slice(0));
    const decoded = decodeConfig(bytes);
    expect(encodeConfig(decoded)).toEqual(bytes);
    expect(decoded.capabilities.map(({ name }) => name)).toEqual(["PM", "EXP", "MSI", "ATS", "PRI", "PASID"]);
    expect(decoded.capabilities.find(({ name }) => name === "ATS")?.parts[0].table).toBe(ATS_CAPABILITY);
  });
});

describe("BARs on the bus", () => {
  it("stand where software puts them while memory space is enabled", () => {
    const bench = new Bench();
    const device = probe(bench);
    const at = device.barAddress(0);
    expect(bench.bus.write(at + 8, Uint8Array.of(1, 2, 3, 4))).toBe(true);
    const into = new Uint8Array(4);
    expect(device.readBar(0, 8, into) && [...into]).toEqual([1, 2, 3, 4]);
    device.writeConfig(0x10, 4, 0xd000_0000);
    device.writeConfig(0x14, 4, 0);
    expect([bench.bus.read(at, into), bench.bus.read(0xd000_0008, into)]).toEqual([false, true]);
    device.writeConfig(4, 2, 0);
    expect(bench.bus.read(0xd000_0008, into)).toBe(false);
  });

  it("take part in peer-to-peer DMA, and never push each other off the bus", () => {
    const bench = new Bench();
    const [first, second] = [probe(bench), probe(bench, {}, { bdf: "0000:02:00.0" })];
    first.writeConfig(4, 2, 6);
    bench.iommu.map(-1, 0x9000n, { pa: second.barAddress(0), perms: 3 });
    expect(first.dma.tryWrite(-1, 0x9010n, Uint8Array.of(9))).toBe(0);
    const into = new Uint8Array(1);
    second.readBar(0, 0x10, into);
    expect(into[0]).toBe(9);
    first.writeConfig(0x10, 4, second.readConfig(0x10, 4));
    first.writeConfig(0x14, 4, second.readConfig(0x14, 4));
    bench.bus.read(second.barAddress(0) + 0x10, into);
    expect(into[0]).toBe(9);
    first.writeConfig(0x10, 4, RAM);
    first.writeConfig(0x14, 4, 0);
    expect(bench.memory.has(RAM, 1)).toBe(true);
  });
});
