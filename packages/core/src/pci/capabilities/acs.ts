/** Access Control Services extended capability: PCIe 6.0 7.7.11. The egress control vector that may follow is left out. */
import { bit, reserved, uint } from "../../bits/field.js";
import { layout } from "../../bits/layout.js";
import { EXTENDED_CAPABILITY_HEAD, RO } from "./heads.js";

const ENHANCED = { needs: { EnhancedCapability: true } } as const;

export const ACS_CAPABILITY = layout(
  { name: "ACS Extended Capability", bits: 64, spec: "PCIe 7.7.11" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    SourceValidation: bit(32, "requests with a foreign bus number are blocked", RO),
    TranslationBlocking: bit(33, "translated requests are blocked", RO),
    P2PRequestRedirect: bit(34, "peer-to-peer requests go upstream", RO),
    P2PCompletionRedirect: bit(35, "peer-to-peer completions go upstream", RO),
    UpstreamForwarding: bit(36, "requests that came back up are forwarded upstream", RO),
    P2PEgressControl: bit(37, "peers can be blocked one by one", RO),
    DirectTranslatedP2P: bit(38, "translated peer-to-peer requests go directly", RO),
    EnhancedCapability: bit(39, "I/O blocking and memory target controls exist", RO),
    EgressControlVectorSize: uint(47, 40, "bits of the egress control vector", RO),
    SourceValidationEnable: bit(48, "enable of Source Validation", { needs: { SourceValidation: true } }),
    TranslationBlockingEnable: bit(49, "enable of Translation Blocking", { needs: { TranslationBlocking: true } }),
    P2PRequestRedirectEnable: bit(50, "enable of P2P Request Redirect", { needs: { P2PRequestRedirect: true } }),
    P2PCompletionRedirectEnable: bit(51, "enable of P2P Completion Redirect", {
      needs: { P2PCompletionRedirect: true },
    }),
    UpstreamForwardingEnable: bit(52, "enable of Upstream Forwarding", { needs: { UpstreamForwarding: true } }),
    P2PEgressControlEnable: bit(53, "enable of P2P Egress Control", { needs: { P2PEgressControl: true } }),
    DirectTranslatedP2PEnable: bit(54, "enable of Direct Translated P2P", { needs: { DirectTranslatedP2P: true } }),
    IORequestBlockingEnable: bit(55, "block I/O requests from below", ENHANCED),
    DSPMemoryTargetAccessControl: uint(57, 56, "requests that target a downstream port's memory", ENHANCED),
    USPMemoryTargetAccessControl: uint(59, 58, "requests that target the upstream port's memory", ENHANCED),
    UnclaimedRequestRedirectControl: bit(60, "send unclaimed requests upstream", ENHANCED),
    ControlReserved: reserved(63, 61),
  },
);

/** PCI_ACS_*: bits of the capability and of the control register, as Linux names them. */
export const Acs = { SV: 0x01, TB: 0x02, RR: 0x04, CR: 0x08, UF: 0x10, EC: 0x20, DT: 0x40 } as const;
