/** Address Translation Services extended capability: PCIe 6.0 10.5.1. */
import { bit, reserved, uint } from "../../bits/field.js";
import { layout } from "../../bits/layout.js";
import { EXTENDED_CAPABILITY_HEAD, RO } from "./heads.js";

export const ATS_CAPABILITY = layout(
  { name: "ATS Extended Capability", bits: 64, spec: "PCIe 10.5.1" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    InvalidateQueueDepth: uint(
      36,
      32,
      "invalidate requests that the function takes before it pushes back; 0 is 32",
      RO,
    ),
    PageAlignedRequest: bit(37, "untranslated addresses of translation requests are aligned to 4 KiB", RO),
    GlobalInvalidateSupported: bit(38, "invalidate requests may have Global Invalidate set", RO),
    RelaxedOrderingSupported: bit(39, "translation requests may have Relaxed Ordering set", RO),
    MemoryAttributesSupported: bit(40, "translation completions may carry memory attributes", RO),
    CapabilityReserved: reserved(47, 41),
    STU: uint(52, 48, "Smallest Translation Unit: 2^(STU+12) bytes", {
      condition: "writable while Enable is 0; read-only zero in a VF",
    }),
    ControlReserved: reserved(59, 53),
    MemoryAttributesEnable: bit(60, "ask for memory attributes", { needs: { MemoryAttributesSupported: true } }),
    MemoryAttributesDefault: uint(62, 61, "attribute assumed without an answer", {
      needs: { MemoryAttributesSupported: true },
    }),
    Enable: bit(63, "the function may cache translations"),
  },
);
