/** VFIO_DEVICE_FEATURE: probing, getting and setting what a device offers beyond the rest. No migration, no dirty logging here. */
import { IommuError, type UserPointer } from "@iommukit/core";
import { Feature, FeatureFlags } from "../uapi/device-structs.js";
import { decodeStruct } from "../uapi/struct.js";

const KNOWN = FeatureFlags.MASK | FeatureFlags.GET | FeatureFlags.SET | FeatureFlags.PROBE;

/** What may be done with a feature; "unsupported" answers EINVAL to everything. */
export type FeatureSupport = "get" | "set" | "unsupported";

/** Runtime power management: the device may sleep until its next use. The model has no such state; it answers at once. */
export const LOW_POWER_FEATURES: Readonly<Record<number, FeatureSupport>> = { 3: "set", 4: "set", 5: "set" };

export async function deviceFeature(
  features: Readonly<Record<number, FeatureSupport>>,
  arg: UserPointer,
): Promise<number> {
  const { argsz, flags } = decodeStruct(Feature, await arg.copyFrom(Feature.bytes));
  const operations = flags & (FeatureFlags.GET | FeatureFlags.SET);
  const probe = (flags & FeatureFlags.PROBE) !== 0;
  const number = flags & FeatureFlags.MASK;
  if (
    argsz < Feature.bytes ||
    (flags & ~KNOWN) !== 0 ||
    (!probe && operations === (FeatureFlags.GET | FeatureFlags.SET))
  )
    throw new IommuError("EINVAL", `argsz ${argsz}, flags 0x${flags.toString(16)}`);
  const support = features[number];
  if (support === undefined) throw new IommuError("ENOTTY", `the device has no feature ${number}`);
  const allowed = support === "get" ? FeatureFlags.GET : support === "set" ? FeatureFlags.SET : 0;
  if (support === "unsupported" || (operations & ~allowed) !== 0 || (!probe && operations === 0))
    throw new IommuError("EINVAL", `feature ${number}: flags 0x${flags.toString(16)}`);
  return 0;
}
