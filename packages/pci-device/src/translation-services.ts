/** ATS, PRI and PASID as software sees them: the registers of the capabilities drive the units, the units set status bits. */
import { ATS_CAPABILITY, PRI_CAPABILITY } from "@iommukit/core";
import type { AtsUnit } from "./ats-unit.js";
import type { ConfigSpace } from "./config-space.js";
import type { PageRequestInterface, PageRequestStatus } from "./page-requests.js";
import type { PasidState } from "./pasid-state.js";

const ATS_ENABLE = 1 << 31;
const PRI_RESET = 2;

/** @param physical the physical function's unit, for a VF: it gives the STU */
export function wireAts(config: ConfigSpace, at: number, ats: AtsUnit, physical: AtsUnit | undefined): void {
  const { words } = config;
  const index = at / 4;
  // STU is locked while ATS is enabled, and a VF has none of its own (PCIe 10.5.1.3).
  config.guard(at + 4, () => (ats.enabled || physical ? ATS_ENABLE : -1));
  config.onWrite(at + 4, () => {
    const enable = ATS_CAPABILITY.Enable.get(words, index) === 1;
    if (enable && !ats.enabled) ats.enable(physical?.smallestTranslation ?? 12 + ATS_CAPABILITY.STU.get(words, index));
    else if (!enable && ats.enabled) ats.disable();
  });
}

export function priStatus({ words }: ConfigSpace, at: number): PageRequestStatus {
  const index = at / 4;
  return {
    stopped: (value) => PRI_CAPABILITY.Stopped.set(words, index, value ? 1 : 0),
    responseFailure: () => PRI_CAPABILITY.ResponseFailure.set(words, index, 1),
    unexpectedIndex: () => PRI_CAPABILITY.UnexpectedPageRequestGroupIndex.set(words, index, 1),
  };
}

export function wirePri(config: ConfigSpace, at: number, pri: PageRequestInterface): void {
  const { words } = config;
  const index = at / 4;
  config.guard(at + 12, () => (pri.enabled ? 0 : -1));
  config.onWrite(at + 12, () => {
    pri.allocation = PRI_CAPABILITY.OutstandingPageRequestAllocation.get(words, index);
  });
  config.onWrite(at + 4, (ones) => {
    const enable = PRI_CAPABILITY.Enable.get(words, index) === 1;
    if (enable && !pri.enabled) {
      PRI_CAPABILITY.ResponseFailure.set(words, index, 0);
      PRI_CAPABILITY.UnexpectedPageRequestGroupIndex.set(words, index, 0);
      pri.enable();
    } else if (!enable && pri.enabled) pri.disable();
    // Reset has no effect while the interface is enabled (PCIe 10.5.2.2).
    if (!pri.enabled && (ones & PRI_RESET) !== 0) pri.reset();
  });
}

export function wirePasid(config: ConfigSpace, at: number, pasid: PasidState, ats: AtsUnit | undefined): void {
  const { words } = config;
  const control = at / 4 + 1;
  // Locked while ATS is enabled (PCIe 7.8.9.3).
  config.guard(at + 4, () => (ats?.enabled ? 0 : -1));
  config.onWrite(at + 4, () => pasid.set(words[control] >>> 16));
}
