/** What `--expect-clean` looks for. Each begins to listen when the machine is up, and says in the end what it has found. */
import type { Platform } from "@iommukit/core";
import { describeFinding, Sanitizer } from "@iommukit/explore";

export type Check = (platform: Platform) => () => readonly string[];

/** What the kernel prints, and the faults that the IOMMU records; page requests that were answered are none. */
const faults: Check = (platform) => {
  const lines: string[] = [];
  platform.trace.on("log:printed", ({ line }) => lines.push(`kernel: ${line}`));
  platform.trace.on("fault:recorded", ({ fault, rid, pasid, address }) => {
    const where = [...platform.devices.values()].find((device) => device.rid === rid)?.name ?? `requester ${rid}`;
    lines.push(`${fault}: ${where}, PASID ${pasid}, address 0x${address.toString(16)}`);
  });
  return () => lines;
};

/** The rules of IOMMU drivers: no use of stale translations, every page request answered once, invalidations in order, … */
const rules: Check = (platform) => {
  const sanitizer = new Sanitizer(platform, { onPark: undefined });
  sanitizer.begin();
  return () => sanitizer.end(false).map(describeFinding);
};

const CHECKS: readonly Check[] = [faults, rules];

/** @returns what to call in the end */
export function startChecks(platform: Platform): () => readonly string[] {
  const started = CHECKS.map((check) => check(platform));
  return () => started.flatMap((end) => end());
}
