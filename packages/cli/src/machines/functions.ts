/** The devices of a transcript's machine, as QEMU makes them and as its firmware leaves them. */
import type { DevicePlugin } from "@iommukit/core";
import { e1000e, edu, nvme, type PlacementOptions } from "@iommukit/pci-device";
import { profileOf, UnknownMachine } from "./configurations.js";
import { plainFunction } from "./plain-function.js";
import type { TranscriptDevice, TranscriptHeader } from "./transcript-header.js";

export interface MachineFunction {
  readonly bdf: string;
  readonly plugin: DevicePlugin;
  /** Driver that is bound to it; undefined: none. */
  readonly driver: string | undefined;
}

type Firmware = NonNullable<PlacementOptions["firmware"]>;

/** What SeaBIOS on q35 and the kernel on arm64's virt leave in the registers: read from the machines themselves. */
const FIRMWARE: Readonly<Record<string, Readonly<Record<string, Firmware>>>> = {
  x86_64: {
    "00:05.0": { bars: { 0: 0xfe70_0000 }, command: 0x103, interruptLine: 10 },
    "00:06.0": { bars: { 0: 0xfe80_0000 }, command: 0x103, interruptLine: 10 },
    "00:07.0": { bars: { 0: 0xfeb8_0000 }, command: 0x103, interruptLine: 11 },
    "00:08.0": {
      bars: { 0: 0xfeb4_0000, 1: 0xfeb6_0000, 2: 0xc0c0, 3: 0xfeb8_4000, 6: 0xfeb0_0000 },
      command: 0x103,
      interruptLine: 10,
    },
    "00:09.0": { bars: { 0: 0xfe90_0000 }, command: 0x103, interruptLine: 10 },
    "00:09.1": { bars: { 0: 0xfea0_0000 }, command: 0x103, interruptLine: 11 },
  },
  aarch64: {
    "00:05.0": { bars: { 0: 0x1000_0000 }, command: 2, interruptLine: 24 },
    "00:06.0": { bars: { 0: 0x1010_0000 }, command: 2, interruptLine: 20 },
    "00:07.0": { bars: { 0: 0x80_0000_0000 }, command: 2, interruptLine: 25 },
    "00:08.0": { bars: { 0: 0x1044_0000, 1: 0x1046_0000, 2: 0x1080, 3: 0x1048_0000 }, command: 3, interruptLine: 26 },
    "00:09.0": { bars: { 0: 0x1020_0000 }, command: 2, interruptLine: 24 },
    "00:09.1": { bars: { 0: 0x1030_0000 }, command: 2, interruptLine: 0 },
  },
};

/** Vendor and device id of what the machine has. */
const MODELS: Readonly<Record<string, (options: PlacementOptions) => DevicePlugin>> = {
  "0x1234:0x11e8": edu,
  "0x1b36:0x0010": nvme,
  "0x8086:0x10d3": e1000e,
  "0x8086:0x2930": (placement) => plainFunction({ vendor: 0x8086, device: 0x2930, classCode: 0x0c0500 }, placement),
};

export function functionsOf(header: TranscriptHeader): MachineFunction[] {
  const { devices } = header;
  const present = Object.values(devices).filter(({ group }) => group >= 0);
  const functions: MachineFunction[] = [];
  // Groups are numbered in the order in which their devices are found; the recorder names some of the devices only.
  const last = Math.max(-1, ...present.map(({ group }) => group));
  for (let group = 0; group <= last; group++) {
    const members = present.filter((device) => device.group === group);
    if (members.length === 0) functions.push(unnamed(group));
    else if (members.includes(devices.N)) functions.push(...chipset(devices.N.bdf));
    for (const device of members)
      functions.push({
        bdf: device.bdf,
        plugin: plug(device, header, present),
        driver: device.driver === "none" ? undefined : device.driver,
      });
  }
  return functions;
}

/** Functions that no IOMMU translates for, or that the kernel has not looked at yet. */
export function ungroupedOf(header: TranscriptHeader): MachineFunction[] {
  const all = Object.values(header.devices);
  return all
    .filter(({ group }) => group < 0)
    .map((device) => ({ bdf: device.bdf, plugin: plug(device, header, all), driver: undefined }));
}

/** A function that the header leaves out, at the end of its bus. */
function unnamed(group: number): MachineFunction {
  const bdf = `0000:00:${(0x10 + group).toString(16)}.0`;
  return {
    bdf,
    plugin: plainFunction({ vendor: 0x1b36, device: 0x0005, classCode: 0xff0000 }, { bdf }),
    driver: undefined,
  };
}

function plug(
  { bdf, vendor, device }: TranscriptDevice,
  header: TranscriptHeader,
  all: readonly TranscriptDevice[],
): DevicePlugin {
  const model = MODELS[`${vendor}:${device}`];
  if (!model) throw new UnknownMachine(`${bdf} is a device ${vendor}:${device}, which is not modelled`);
  const slot = bdf.slice(0, -2);
  const multiFunction = slot.endsWith(":1f") || all.some((other) => other.bdf !== bdf && other.bdf.startsWith(slot));
  return model({ bdf, multiFunction, firmware: firmwareOf(header, bdf.slice(5)) });
}

function firmwareOf(header: TranscriptHeader, place: string): Firmware | undefined {
  const firmware = FIRMWARE[header.machine]?.[place];
  const lost = header.machine === "aarch64" && place === "00:08.0" && profileOf(header) === "linux-6.12";
  // The interrupt line that the kernel wrote is gone once 6.12 has bound e1000e to vfio-pci; before and after 6.12 it stays.
  return firmware && lost ? { ...firmware, interruptLine: 0 } : firmware;
}

/** q35's slot 1f: the LPC bridge and the AHCI controller beside the SMBus function. */
function chipset(smbus: string): MachineFunction[] {
  const slot = smbus.slice(0, -1);
  const at = (fn: number) => ({ bdf: `${slot}${fn}`, multiFunction: true });
  return [
    {
      bdf: `${slot}0`,
      plugin: plainFunction({ vendor: 0x8086, device: 0x2918, classCode: 0x060100 }, at(0)),
      driver: "lpc_ich",
    },
    {
      bdf: `${slot}2`,
      plugin: plainFunction({ vendor: 0x8086, device: 0x2922, classCode: 0x010601 }, at(2)),
      driver: "ahci",
    },
  ];
}
