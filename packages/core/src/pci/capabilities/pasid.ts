/** PASID extended capability: PCIe 6.0 7.8.9. */
import { bit, reserved, uint } from "../../bits/field.js";
import { layout } from "../../bits/layout.js";
import { EXTENDED_CAPABILITY_HEAD, RO } from "./heads.js";

export const PASID_CAPABILITY = layout(
  { name: "PASID Extended Capability", bits: 64, spec: "PCIe 7.8.9" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    CapabilityReserved: reserved(32),
    ExecutePermissionSupported: bit(33, "requests may have Execute Requested set", RO),
    PrivilegedModeSupported: bit(34, "requests may have Privileged Mode Requested set", RO),
    TranslatedRequestsWithPASIDSupported: bit(35, "translated requests may carry a PASID", RO),
    CapabilityReserved2: reserved(39, 36),
    MaxPASIDWidth: uint(44, 40, "PASIDs have this many bits, at most 20", RO),
    CapabilityReserved3: reserved(47, 45),
    PASIDEnable: bit(48, "the function may send requests with a PASID"),
    ExecutePermissionEnable: bit(49, "Execute Requested may be set", { needs: { ExecutePermissionSupported: true } }),
    PrivilegedModeEnable: bit(50, "Privileged Mode Requested may be set", { needs: { PrivilegedModeSupported: true } }),
    TranslatedRequestsWithPASIDEnable: bit(51, "translated requests carry the PASID", {
      needs: { TranslatedRequestsWithPASIDSupported: true },
    }),
    ControlReserved: reserved(63, 52),
  },
);
