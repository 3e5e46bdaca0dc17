/** The field's own tool as judge: real lspci reads our configuration space and prints what the model claims. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type DevicePlugin,
  type PciFunction,
  pciEnableAts,
  pciEnablePasid,
  pciEnablePri,
  Scheduler,
  SystemBus,
  Tracer,
  TranslationPort,
} from "@iommukit/core";
import { container } from "tsyringe";
import { afterAll, describe, expect, it } from "vitest";
import { decodeConfig } from "../src/config-image.js";
import { Accelerator } from "../src/devices/accelerator/accelerator.js";
import { e1000e } from "../src/devices/e1000e.js";
import { Edu } from "../src/devices/edu.js";
import { Nic } from "../src/devices/nic.js";
import { nvme } from "../src/devices/nvme.js";
import { Rogue } from "../src/devices/rogue.js";
import { lspciDump } from "../src/lspci-dump.js";
import { PciBridge } from "../src/pci-bridge.js";
import type { PciDevice } from "../src/pci-device.js";
import { Bench } from "./support/bench.js";

const present = spawnSync("lspci", ["--version"]).status === 0;
if (!present) console.warn("lspci is absent (Debian package pciutils): nobody but ourselves looks at these devices");

const directory = mkdtempSync(join(tmpdir(), "lspci-"));
afterAll(() => rmSync(directory, { recursive: true }));

function lspci(...functions: PciFunction[]): string {
  const path = join(directory, "dump");
  writeFileSync(path, lspciDump(functions));
  const { stdout, stderr, status } = spawnSync("lspci", ["-F", path, "-n", "-vvv"], { encoding: "utf8" });
  expect([status, stderr.match(/pcilib.*/)]).toEqual([0, null]);
  return stdout;
}

function made(plugin: DevicePlugin, bench: Bench): PciDevice[] {
  const scope = container.createChildContainer();
  scope.registerInstance<TranslationPort>(TranslationPort, bench.iommu);
  scope.registerInstance<SystemBus>(SystemBus, bench.bus);
  scope.registerInstance<Scheduler>(Scheduler, bench.scheduler);
  scope.registerInstance(Tracer, bench.trace);
  return plugin.create(scope) as PciDevice[];
}

describe.skipIf(!present)("lspci", () => {
  it("prints the accelerator's ATS, PRI and PASID as they are set", () => {
    const bench = new Bench();
    const device = new Accelerator(
      { bdf: "0000:6a:01.0", totalVfs: 4, ats: { queueDepth: 16 }, pasid: { execute: true } },
      bench.ports(),
    );
    device.writeConfig(4, 2, 6);
    expect(lspci(device)).toContain("ATSCap:\tInvalidate Queue Depth: 10");
    pciEnablePasid(device, 4);
    pciEnablePri(device, 40);
    pciEnableAts(device, 14);
    const text = lspci(device);
    expect(text).toContain("6a:01.0 0880: 1234:5a01 (rev 01)");
    expect(text).toContain("Mem+ BusMaster+");
    expect(text).toContain("Express (v2) Root Complex Integrated Endpoint, MSI 00");
    expect(text).toContain("FLReset+");
    expect(text).toMatch(
      /Address Translation Service \(ATS\)\n\t\tATSCap:\tInvalidate Queue Depth: 10\n\t\tATSCtl:\tEnable\+, Smallest Translation Unit: 02/,
    );
    expect(text).toMatch(
      /PRICtl: Enable\+ Reset-\n\t\tPRISta: RF- UPRGI- Stopped-\n\t\tPage Request Capacity: 00000200, Page Request Allocation: 00000028/,
    );
    expect(text).toMatch(/PASIDCap: Exec\+ Priv\+, Max PASID Width: 14\n\t\tPASIDCtl: Enable\+ Exec- Priv\+/);
    expect(text).toMatch(
      /MSI-X: Enable- Count=9 Masked-\n\t\tVector table: BAR=0 offset=00002000\n\t\tPBA: BAR=0 offset=00003000/,
    );
    expect(text).toMatch(/Initial VFs: 4, Total VFs: 4, Number of VFs: 0/);
    expect(text).toMatch(/VF offset: 1, stride: 1, Device ID: 5a01/);
  });

  it("prints edu as QEMU's", () => {
    const text = lspci(new Edu({ bdf: "0000:00:05.0" }, new Bench().ports()));
    expect(text).toContain("00:05.0 00ff: 1234:11e8 (rev 10)");
    expect(text).toContain("Subsystem: 1af4:1100");
    expect(text).toContain("Capabilities: [40] MSI: Enable- Count=1/1 Maskable- 64bit+");
  });

  it("prints a root port's buses, slot and ACS", () => {
    const bench = new Bench();
    const port = new PciBridge({ bdf: "0000:00:1c.0", type: "root port", secondary: 1, subordinate: 3, slot: 5 }, []);
    const device = new Nic({ bdf: "0000:01:00.0" }, { ...bench.ports(), upstream: [port] });
    const text = lspci(port, device);
    expect(text).toContain("Bus: primary=00, secondary=01, subordinate=03, sec-latency=0");
    expect(text).toContain("Express (v2) Root Port (Slot+)");
    expect(text).toMatch(/Slot #5/);
    expect(text).toMatch(/PresDet\+/);
    expect(text).toContain("ACSCap:\tSrcValid+ TransBlk- ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-");
    expect(text).toContain("ACSCtl:\tSrcValid+ TransBlk- ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-");
    expect(text).toContain("01:00.0 0200: 1234:5a02 (rev 01)");
    expect(text).toContain("Express (v2) Endpoint");
  });

  it("finds the same capabilities at the same offsets as our own decoder, for every device", () => {
    const bench = new Bench();
    const devices = [
      new Accelerator({ bdf: "0000:01:00.0", totalVfs: 2 }, bench.ports()),
      new Edu({ bdf: "0000:00:05.0" }, bench.ports()),
      new Nic({ bdf: "0000:02:00.0", ats: {}, pri: {}, pasid: {} }, bench.ports()),
      new Rogue({ bdf: "0000:03:00.0" }, bench.ports()),
      new PciBridge({ bdf: "0000:00:1d.0", type: "downstream port", secondary: 4 }, []),
      new PciBridge({ bdf: "0000:00:1e.0", type: "PCIe to PCI bridge", secondary: 5 }, []),
      ...[nvme({ bdf: "0000:00:07.0" }), e1000e({ bdf: "0000:00:08.0" })].flatMap((plugin) => made(plugin, bench)),
    ];
    for (const device of devices) {
      const listed = [...lspci(device).matchAll(/Capabilities: \[([0-9a-f]+)/g)].map(([, at]) =>
        Number.parseInt(at, 16),
      );
      const ours = decodeConfig(new Uint8Array(device.config.words.buffer.slice(0))).capabilities.map(
        ({ offset }) => offset,
      );
      expect(listed).toEqual(ours);
    }
  });
});
