/** Message Signaled Interrupts: PCIe 6.0 7.7.1 (MSI, four forms) and 7.7.2 (MSI-X). */
import { bit, type FieldSpec, reserved, uint } from "../../bits/field.js";
import { layout } from "../../bits/layout.js";
import { CAPABILITY_HEAD, RO } from "./heads.js";

const EXTENDED_DATA = { needs: { ExtendedMessageDataCapable: true } } as const;

const MSI_HEAD = {
  ...CAPABILITY_HEAD,
  MSIEnable: bit(16, "interrupts are memory writes"),
  MultipleMessageCapable: uint(19, 17, "log2 of the vectors that the function wants", RO),
  MultipleMessageEnable: uint(22, 20, "log2 of the vectors that it got"),
  AddressCapable64Bit: bit(23, "the address has 64 bits", RO),
  PerVectorMaskingCapable: bit(24, "Mask Bits and Pending Bits exist", RO),
  ExtendedMessageDataCapable: bit(25, "data may have 32 bits", RO),
  ExtendedMessageDataEnable: bit(26, "data has 32 bits", EXTENDED_DATA),
  MessageControlReserved: reserved(31, 27),
  MessageAddressReserved: reserved(33, 32),
  MessageAddress: uint(63, 34, "address bits 31:2"),
} satisfies Record<string, FieldSpec>;

function data(at: number) {
  return {
    MessageData: uint(at + 15, at, "data; the vector number replaces its low bits"),
    ExtendedMessageData: uint(at + 31, at + 16, "data bits 31:16", EXTENDED_DATA),
  } satisfies Record<string, FieldSpec>;
}

function masks(at: number) {
  return {
    MaskBits: uint(at + 31, at, "one bit per vector: do not send"),
    PendingBits: uint(at + 63, at + 32, "one bit per vector: would have been sent", RO),
  } satisfies Record<string, FieldSpec>;
}

const UPPER = { MessageUpperAddress: uint(95, 64, "address bits 63:32") } satisfies Record<string, FieldSpec>;

export const MSI32_CAPABILITY = layout(
  { name: "MSI Capability, 32-bit", bits: 96, spec: "PCIe 7.7.1" },
  { ...MSI_HEAD, ...data(64) },
);
export const MSI64_CAPABILITY = layout(
  { name: "MSI Capability, 64-bit", bits: 128, spec: "PCIe 7.7.1" },
  { ...MSI_HEAD, ...UPPER, ...data(96) },
);
export const MSI32_MASKED_CAPABILITY = layout(
  { name: "MSI Capability, 32-bit with masks", bits: 160, spec: "PCIe 7.7.1" },
  {
    ...MSI_HEAD,
    ...data(64),
    ...masks(96),
  },
);
export const MSI64_MASKED_CAPABILITY = layout(
  { name: "MSI Capability, 64-bit with masks", bits: 192, spec: "PCIe 7.7.1" },
  {
    ...MSI_HEAD,
    ...UPPER,
    ...data(96),
    ...masks(128),
  },
);

export const MSIX_CAPABILITY = layout(
  { name: "MSI-X Capability", bits: 96, spec: "PCIe 7.7.2" },
  {
    ...CAPABILITY_HEAD,
    TableSize: uint(26, 16, "vectors minus one", RO),
    MessageControlReserved: reserved(29, 27),
    FunctionMask: bit(30, "all vectors are masked"),
    MSIXEnable: bit(31, "interrupts are writes from the table"),
    TableBIR: uint(34, 32, "BAR that holds the table", RO),
    TableOffset: uint(63, 35, "offset of the table in that BAR, in units of 8 bytes", RO),
    PBABIR: uint(66, 64, "BAR that holds the pending bits", RO),
    PBAOffset: uint(95, 67, "offset of the pending bits in that BAR, in units of 8 bytes", RO),
  },
);

export const MSIX_TABLE_ENTRY = layout(
  { name: "MSI-X Table entry", bits: 128, spec: "PCIe 7.7.2.5" },
  {
    MessageAddressReserved: reserved(1, 0),
    MessageAddress: uint(31, 2, "address bits 31:2"),
    MessageUpperAddress: uint(63, 32, "address bits 63:32"),
    MessageData: uint(95, 64, "data"),
    MaskBit: bit(96, "do not send", { reset: 1 }),
    VectorControlReserved: reserved(127, 97),
  },
);
