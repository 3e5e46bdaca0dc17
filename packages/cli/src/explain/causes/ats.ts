/** Causes of ATS invalidations that were never completed, on every IOMMU. */
import type { CauseRule } from "./rule.js";

export const ATS_RULES: readonly CauseRule[] = [
  {
    id: "ats-no-completion",
    title: "the device has ATS enabled and does not answer invalidations",
    weight: ({ name }) => (name === "ITE" || name === "IOTLB_INV_TIMEOUT" ? 80 : 0),
    because: "the IOMMU sent an Invalidate Request to the device's TLB and got no completion in time",
    distinguish:
      "at reset, hot unplug or power-down of the device: it was not there to answer; always: its ATS capability promises what it does not do",
    attempt:
      "lspci -vvv: ATSCtl Enable+; boot with pci=noats; a device that is broken for good gets quirk_no_ats in Linux",
    sources: [
      "PCIe 10.3",
      "VT-d 11.4.7.1 (ITE)",
      "linux-pci <20250221202646.395252-4-cassel@kernel.org> (rk3588 endpoint)",
    ],
  },
];
