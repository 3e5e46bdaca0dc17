/** VFIO_DEVICE_FEATURE: probing, getting and setting what a device offers beyond the rest. No migration, no dirty logging here. */
import { IommuError, type Task, type UserPointer } from "@iommukit/core";
import { Feature, FeatureFlags, LowPowerWakeup } from "../uapi/device-structs.js";
import { decodeStruct } from "../uapi/struct.js";
import { eventOf } from "./event-of.js";
import type { LowPower } from "./low-power.js";

const KNOWN = FeatureFlags.MASK | FeatureFlags.GET | FeatureFlags.SET | FeatureFlags.PROBE;

/** What may be done with a feature; "unsupported" answers EINVAL to everything. */
export type FeatureSupport = "get" | "set" | "unsupported";

const LOW_POWER_ENTRY = 3;
const LOW_POWER_ENTRY_WITH_WAKEUP = 4;
const LOW_POWER_EXIT = 5;

/** Runtime power management: the device may sleep until its next use. */
export const LOW_POWER_FEATURES: Readonly<Record<number, FeatureSupport>> = {
  [LOW_POWER_ENTRY]: "set",
  [LOW_POWER_ENTRY_WITH_WAKEUP]: "set",
  [LOW_POWER_EXIT]: "set",
};

/** How many bytes of data follow the header. */
const DATA: Readonly<Record<number, number>> = { [LOW_POWER_ENTRY_WITH_WAKEUP]: LowPowerWakeup.bytes };

export async function deviceFeature(
  features: Readonly<Record<number, FeatureSupport>>,
  lowPower: LowPower,
  task: Task,
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
  if (probe) return 0;
  const bytes = DATA[number] ?? 0;
  if (argsz < Feature.bytes + bytes)
    throw new IommuError("EINVAL", `feature ${number}: argsz ${argsz} is less than ${Feature.bytes + bytes}`);
  await setLowPower(lowPower, number, task, arg);
  return 0;
}

async function setLowPower(lowPower: LowPower, number: number, task: Task, arg: UserPointer): Promise<void> {
  if (number === LOW_POWER_ENTRY) await lowPower.enter();
  if (number === LOW_POWER_EXIT) lowPower.exit();
  if (number !== LOW_POWER_ENTRY_WITH_WAKEUP) return;
  const { wakeup_eventfd } = decodeStruct(LowPowerWakeup, await arg.copyFrom(LowPowerWakeup.bytes, Feature.bytes));
  const fd = wakeup_eventfd | 0;
  if (fd < 0) throw new IommuError("EINVAL", `descriptor ${fd}`);
  await lowPower.enter(eventOf(task, fd));
}
