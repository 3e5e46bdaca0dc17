/** Root and context tables (VT-d 9.1 to 9.4): which tables a source-id uses. Bus selects the root entry, devfn the context entry. */
import { addr, bit, layout, oneOf, reserved, uint } from "@iommukit/core";

export const ROOT_ENTRY = layout(
  { name: "Root Entry", bits: 128, spec: "VT-d 9.1", summary: "Legacy mode; 256 entries, by bus." },
  {
    P: bit(0, "present"),
    R0: reserved(11, 1),
    CTP: addr(63, 12, "context table"),
    R1: reserved(127, 64),
  },
);

export const SM_ROOT_ENTRY = layout(
  { name: "Scalable-Mode Root Entry", bits: 128, spec: "VT-d 9.2", summary: "256 entries, by bus." },
  {
    LP: bit(0, "lower context table is present: devfn 0x00 to 0x7f"),
    R0: reserved(11, 1),
    LCTP: addr(63, 12, "lower context table"),
    UP: bit(64, "upper context table is present: devfn 0x80 to 0xff"),
    R1: reserved(75, 65),
    UCTP: addr(127, 76, "upper context table"),
  },
);

export const CONTEXT_ENTRY = layout(
  { name: "Context Entry", bits: 128, spec: "VT-d 9.3", summary: "Legacy mode; 256 entries, by devfn." },
  {
    P: bit(0, "present"),
    FPD: bit(1, "fault processing disable: qualified faults are not recorded"),
    TT: oneOf(3, 2, { untranslatedOnly: 0, deviceTlb: 1, passThrough: 2 }, "translation type"),
    R0: reserved(11, 4),
    SSPTPTR: addr(63, 12, "second-stage page table (SLPTPTR)"),
    AW: oneOf(66, 64, { "39": 1, "48": 2, "57": 3 }, "address width of the second stage"),
    IGN: uint(70, 67, "for software"),
    R1: reserved(71),
    DID: uint(87, 72, "domain-id"),
    R2: reserved(127, 88),
  },
);

export const SM_CONTEXT_ENTRY = layout(
  { name: "Scalable-Mode Context Entry", bits: 256, spec: "VT-d 9.4", summary: "128 entries a table, by devfn[6:0]." },
  {
    P: bit(0, "present"),
    FPD: bit(1, "fault processing disable: qualified faults are not recorded"),
    DTE: bit(2, "device-TLB enable: translation and translated requests are allowed"),
    PASIDE: bit(3, "requests with PASID are allowed"),
    PRE: bit(4, "page requests are allowed"),
    HPTE: bit(5, "translated requests are checked against the host permission table", { condition: "ECAP.HPTS" }),
    EPTR: bit(6, "translated requests may have a PASID", { condition: "ECAP.PTRS" }),
    R0: reserved(8, 7),
    PDTS: uint(11, 9, "the PASID directory has 2^(n + 7) entries"),
    PASIDDIRPTR: addr(63, 12, "PASID directory"),
    RID_PASID: uint(83, 64, "PASID of requests without one"),
    RID_PRIV: bit(84, "requests without PASID are supervisor requests", { condition: "ECAP.RPRIVS" }),
    R1: reserved(255, 85),
  },
);
