/** Which rules apply to a fault, likeliest first. */
import type { Facts } from "../record.js";
import { ADDRESS_RULES } from "./addresses.js";
import { AMD_RULES } from "./amd.js";
import { ATS_RULES } from "./ats.js";
import type { Cause, CauseRule } from "./rule.js";
import { SMMUV3_RULES } from "./smmuv3.js";
import { VTD_RULES } from "./vtd.js";

export const CAUSE_RULES: readonly CauseRule[] = [
  ...ADDRESS_RULES,
  ...VTD_RULES,
  ...SMMUV3_RULES,
  ...AMD_RULES,
  ...ATS_RULES,
];

export function causesOf(facts: Facts): Cause[] {
  if (facts.iommu === undefined) return [];
  return CAUSE_RULES.map((rule): Cause => ({ ...rule, weight: rule.weight(facts) }))
    .filter(({ weight }) => weight > 0)
    .sort((a, b) => b.weight - a.weight);
}
