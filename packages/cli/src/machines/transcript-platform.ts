/** The machine that a transcript was recorded on, built from its header and the table of configurations. */
import { createPlatform, type Platform } from "@iommukit/core";
import { vfioType1 } from "@iommukit/vfio-type1";
import { configurationOf, profileOf } from "./configurations.js";
import { functionsOf } from "./functions.js";
import type { TranscriptHeader } from "./transcript-header.js";

/** A CPU takes an interrupt when the device has ended its burst: QEMU runs a DMA to the end before the guest goes on. */
const INTERRUPT_LATENCY = 1000;
/** Above everything that firmware places below 4 GiB. */
const RAM = [{ base: 0x1_0000_0000, size: 0x4000_0000 }];

/**
 * @param variants known bugs to switch on
 * @returns undefined for a machine that has no model here
 */
export async function transcriptPlatform(
  header: TranscriptHeader,
  variants: readonly string[] = [],
): Promise<Platform | undefined> {
  const configuration = configurationOf(header);
  if (!configuration) return undefined;
  const { iommu, params, passthrough, dynamicMsix } = configuration;
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
  return platform;
}
