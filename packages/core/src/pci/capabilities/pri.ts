/** Page Request Interface extended capability: PCIe 6.0 10.5.2. */
import { bit, reserved, uint } from "../../bits/field.js";
import { layout } from "../../bits/layout.js";
import { EXTENDED_CAPABILITY_HEAD, RO, RW1C } from "./heads.js";

export const PRI_CAPABILITY = layout(
  { name: "Page Request Extended Capability", bits: 128, spec: "PCIe 10.5.2" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    Enable: bit(32, "the function may send page requests; setting it clears Stopped"),
    Reset: bit(33, "write 1 while Enable is 0: forget credits, pending requests and errors", { access: "wo" }),
    ControlReserved: reserved(47, 34),
    ResponseFailure: bit(48, "a PRG response said Response Failure; no more requests until Enable is set anew", RW1C),
    UnexpectedPageRequestGroupIndex: bit(49, "a PRG response named a group that is not outstanding", RW1C),
    StatusReserved: reserved(55, 50),
    Stopped: bit(56, "all page requests since Enable was cleared have been completed", { access: "ro", reset: 1 }),
    StatusReserved2: reserved(62, 57),
    PRGResponsePASIDRequired: bit(63, "responses must carry the PASID of the requests", RO),
    OutstandingPageRequestCapacity: uint(95, 64, "page requests that the function can have outstanding", RO),
    OutstandingPageRequestAllocation: uint(
      127,
      96,
      "page requests that it may have outstanding; written while Enable is 0",
    ),
  },
);
