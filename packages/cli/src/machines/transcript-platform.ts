/** The machine that a transcript was recorded on, built from its header and the table of configurations. */
import { createPlatform, Device, type Platform, TranslationPort, TranslationStatus } from "@iommukit/core";
import { vfioType1 } from "@iommukit/vfio-type1";
import { configurationOf, profileOf } from "./configurations.js";
import { functionsOf, type MachineFunction, ungroupedOf } from "./functions.js";
import type { TranscriptHeader } from "./transcript-header.js";

/** A CPU takes an interrupt when the device has ended its burst: QEMU runs a DMA to the end before the guest goes on. */
const INTERRUPT_LATENCY = 1000;
/** Above everything that firmware places below 4 GiB. */
const RAM = [{ base: 0x1_0000_0000, size: 0x4000_0000 }];

export interface TranscriptMachine {
  readonly platform: Platform;
  /** Functions that are in no group: sysfs shows them, and no IOMMU translates for them. */
  readonly bystanders: readonly Device[];
}

/**
 * @param variants known bugs to switch on
 * @throws UnknownMachine
 */
export async function transcriptMachine(
  header: TranscriptHeader,
  variants: readonly string[] = [],
): Promise<TranscriptMachine> {
  const { iommu, params, passthrough, dynamicMsix } = configurationOf(header);
  const functions = iommu ? functionsOf(header) : [];
  const platform = await createPlatform({
    iommus: iommu ? [iommu] : [],
    devices: functions.map(({ plugin }) => plugin),
    ram: RAM,
    passthrough,
    variants,
    interruptLatency: INTERRUPT_LATENCY,
  });
  for (const { bdf, driver } of functions) platform.device(bdf).driver = driver === "vfio-pci" ? undefined : driver;
  const devices = functions.filter(({ driver }) => driver === "vfio-pci").map(({ bdf }) => bdf);
  const vfio = vfioType1({ profile: profileOf(header), devices, params, dynamicMsix });
  await platform.run(() => platform.addService(vfio), "vfio");
  return { platform, bystanders: ungroupedOf(header).flatMap((one) => bystandersFrom(one, platform)) };
}

function bystandersFrom({ plugin }: MachineFunction, platform: Platform): Device[] {
  const scope = platform.container.createChildContainer();
  scope.registerInstance<TranslationPort>(TranslationPort, NOWHERE);
  return plugin.create(scope).map((pci) => new Device(pci.bdf, pci.rid, pci));
}

/** Nobody drives a function without a group, so it sends no requests. */
const NOWHERE: TranslationPort = {
  translate: () => TranslationStatus.ABORTED,
  translationRequest: () => TranslationStatus.ABORTED,
  pageRequest: () => {},
  invalidateCompletion: () => {},
};
