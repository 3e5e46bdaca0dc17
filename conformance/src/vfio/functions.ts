import type { PciFunction } from "@iommukit/core";
import { FakePciFunction } from "@iommukit/core/testing";
import type { TranscriptHeader } from "./transcript.js";

export interface MachineFunction {
  readonly pci: PciFunction;
  readonly driver: string | undefined;
}

export function functionsOf({ devices }: TranscriptHeader): MachineFunction[] {
  const list = Object.values(devices)
    .filter(({ group }) => group >= 0)
    .map(({ bdf, driver }) => ({
      pci: new FakePciFunction(bdf, { config: { 14: bdf.includes("09.") || bdf.includes("1f.") ? 0x80 : 0 } }),
      driver: driver === "none" ? undefined : driver,
    }));
  if (devices.N?.group >= 0)
    list.push({ pci: new FakePciFunction("0000:00:1f.2", { config: { 14: 0x80 } }), driver: "ahci" });
  return list;
}
