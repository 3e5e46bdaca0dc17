/** Which tables make up each capability: the one list from ids to structures, with what varies in their length. */
import {
  ACS_CAPABILITY,
  type AnyLayout,
  ATS_CAPABILITY,
  type FieldSpec,
  layout,
  MSI32_CAPABILITY,
  MSI32_MASKED_CAPABILITY,
  MSI64_CAPABILITY,
  MSI64_MASKED_CAPABILITY,
  MSIX_CAPABILITY,
  PASID_CAPABILITY,
  PCI_EXPRESS_CAPABILITY,
  POWER_MANAGEMENT_CAPABILITY,
  PortType,
  PRI_CAPABILITY,
  SRIOV_CAPABILITY,
} from "@iommukit/core";
import * as conventional from "./conventional.js";
import * as errors from "./errors.js";
import * as extended from "./extended.js";
import * as link from "./link.js";
import * as power from "./power.js";

/** A structure at a byte offset from the start of its capability. */
export type Part = readonly [offset: number, table: AnyLayout];

/** What the length of some capabilities depends on. */
export interface FormatContext {
  /** Configuration space, and the index of the capability's first word. */
  readonly words: Int32Array;
  readonly at: number;
  readonly bridge: boolean;
  /** Of the function's PCI Express capability; undefined for conventional functions. */
  readonly portType: number | undefined;
  readonly lanes: number;
}

/** One capability: which tables stand where in it. */
export interface CapabilityFormat {
  /** Short name, as Linux and lspci abbreviate it. */
  readonly name: string;
  readonly parts: (context: FormatContext) => readonly Part[];
}

function fixed(name: string, table: AnyLayout): CapabilityFormat {
  return { name, parts: () => [[0, table]] };
}

/**
 * The fields of a table that end within its first `bits`, up to a whole byte: an older version of the structure ends there, or
 * the dump or the next capability does. Undefined when no field does.
 */
export function prefix(table: AnyLayout, bits: number): AnyLayout | undefined {
  const end = table.fields.reduce((last, { msb }) => (msb < bits && msb % 8 === 7 ? msb + 1 : last), 0);
  if (end === 0) return undefined;
  const fields = table.fields.filter(({ msb }) => msb < end);
  const specs: Record<string, FieldSpec> = Object.fromEntries(fields.map(({ name, spec }) => [name, spec]));
  return layout({ name: table.name, bits: end, spec: table.spec }, specs);
}

function repeated(from: number, count: number, table: AnyLayout): Part[] {
  return Array.from({ length: count }, (_, n) => [from + n * table.bytes, table] as const);
}

const EXPRESS_V1 = new Map([0x0c, 0x14, 0x1c, 0x24].map((bytes) => [bytes, prefix(PCI_EXPRESS_CAPABILITY, bytes * 8)]));

/** Version 1 has only the registers that the device type needs (PCIe 1.1 7.8). */
function expressParts({ words, at }: FormatContext): readonly Part[] {
  if (PCI_EXPRESS_CAPABILITY.CapabilityVersion.get(words, at) >= 2) return [[0, PCI_EXPRESS_CAPABILITY]];
  const type = PCI_EXPRESS_CAPABILITY.DevicePortType.get(words, at);
  const root = type === PortType["root port"] || type === PortType["root complex event collector"];
  const slot = PCI_EXPRESS_CAPABILITY.SlotImplemented.get(words, at) === 1;
  const integrated = type === PortType["root complex integrated endpoint"];
  const bytes = root ? 0x24 : slot ? 0x1c : integrated ? 0x0c : 0x14;
  return [[0, EXPRESS_V1.get(bytes) as AnyLayout]];
}

function msiParts({ words, at }: FormatContext): readonly Part[] {
  const wide = MSI64_CAPABILITY.AddressCapable64Bit.get(words, at) === 1;
  const masked = MSI64_CAPABILITY.PerVectorMaskingCapable.get(words, at) === 1;
  if (wide) return [[0, masked ? MSI64_MASKED_CAPABILITY : MSI64_CAPABILITY]];
  return [[0, masked ? MSI32_MASKED_CAPABILITY : MSI32_CAPABILITY]];
}

function allocationParts({ words, at, bridge }: FormatContext): readonly Part[] {
  const { ENHANCED_ALLOCATION_CAPABILITY: head, ENHANCED_ALLOCATION_ENTRY: entry } = conventional;
  const parts: Part[] = [[0, head]];
  let offset = bridge ? 8 : 4;
  for (let n = head.NumEntries.get(words, at); n > 0 && at + offset / 4 < words.length; n--) {
    parts.push([offset, entry]);
    offset += 4 + 4 * entry.EntrySize.get(words, at + offset / 4);
  }
  return parts;
}

function aerParts({ portType }: FormatContext): readonly Part[] {
  const root = portType === PortType["root port"] || portType === PortType["root complex event collector"];
  return root
    ? [
        [0, errors.AER_CAPABILITY],
        [0x2c, errors.AER_ROOT],
      ]
    : [[0, errors.AER_CAPABILITY]];
}

function virtualChannelParts({ words, at }: FormatContext): readonly Part[] {
  const head = link.VIRTUAL_CHANNEL_CAPABILITY;
  return [[0, head], ...repeated(0x10, 1 + head.ExtendedVCCount.get(words, at), link.VC_RESOURCE)];
}

function resizableParts({ words, at }: FormatContext): readonly Part[] {
  const count = extended.RESIZABLE_BAR.NumberOfResizableBARs.get(words, at + 1);
  return [[0, extended.RESIZABLE_BAR_CAPABILITY], ...repeated(4, Math.max(1, count), extended.RESIZABLE_BAR)];
}

function linkDeclarationParts({ words, at }: FormatContext): readonly Part[] {
  const head = link.LINK_DECLARATION_CAPABILITY;
  return [[0, head], ...repeated(0x10, head.NumberOfLinkEntries.get(words, at), link.LINK_ENTRY)];
}

function perLane(name: string, head: AnyLayout, from: number, lane: AnyLayout): CapabilityFormat {
  return { name, parts: ({ lanes }) => [[0, head], ...repeated(from, lanes, lane)] };
}

/** Below 0x100, by id. */
export const CAPABILITY_FORMATS: ReadonlyMap<number, CapabilityFormat> = new Map([
  [0x01, fixed("PM", POWER_MANAGEMENT_CAPABILITY)],
  [0x02, fixed("AGP", conventional.AGP_CAPABILITY)],
  [0x03, fixed("VPD", conventional.VPD_CAPABILITY)],
  [0x05, { name: "MSI", parts: msiParts }],
  [0x06, fixed("HOTSWAP", conventional.HOTSWAP_CAPABILITY)],
  [
    0x07,
    {
      name: "PCIX",
      parts: ({ bridge }) => [[0, bridge ? conventional.PCIX_BRIDGE_CAPABILITY : conventional.PCIX_CAPABILITY]],
    },
  ],
  [0x04, fixed("SLOTID", conventional.SLOT_IDENTIFICATION_CAPABILITY)],
  [0x08, fixed("HT", conventional.HYPERTRANSPORT_CAPABILITY)],
  [0x09, fixed("VNDR", conventional.VENDOR_SPECIFIC_CAPABILITY)],
  [0x0a, fixed("DBG", conventional.DEBUG_PORT_CAPABILITY)],
  [0x0c, fixed("HOTPLUG", conventional.HOTPLUG_CAPABILITY)],
  [0x0d, fixed("SSVID", conventional.SUBSYSTEM_ID_CAPABILITY)],
  [0x10, { name: "EXP", parts: expressParts }],
  [0x11, fixed("MSIX", MSIX_CAPABILITY)],
  [0x12, fixed("SATA", conventional.SATA_CAPABILITY)],
  [0x13, fixed("AF", conventional.ADVANCED_FEATURES_CAPABILITY)],
  [0x14, { name: "EA", parts: allocationParts }],
]);

/** From 0x100 on, by id. */
export const EXTENDED_CAPABILITY_FORMATS: ReadonlyMap<number, CapabilityFormat> = new Map([
  [0x01, { name: "AER", parts: aerParts }],
  [0x02, { name: "VC", parts: virtualChannelParts }],
  [0x03, fixed("DSN", extended.DEVICE_SERIAL_NUMBER_CAPABILITY)],
  [0x04, fixed("PWR_BUDGET", power.POWER_BUDGETING_CAPABILITY)],
  [0x05, { name: "RC_LINK_DECL", parts: linkDeclarationParts }],
  [0x07, fixed("RCEC", extended.EVENT_COLLECTOR_CAPABILITY)],
  [0x08, { name: "MFVC", parts: virtualChannelParts }],
  [0x09, { name: "VC9", parts: virtualChannelParts }],
  [0x0b, fixed("VENDOR", extended.VENDOR_SPECIFIC_EXTENDED_CAPABILITY)],
  [0x0d, fixed("ACS", ACS_CAPABILITY)],
  [0x0e, fixed("ARI", extended.ARI_CAPABILITY)],
  [0x0f, fixed("ATS", ATS_CAPABILITY)],
  [0x10, fixed("SRIOV", SRIOV_CAPABILITY)],
  [0x12, fixed("MCAST", extended.MULTICAST_CAPABILITY)],
  [0x13, fixed("PRI", PRI_CAPABILITY)],
  [0x15, { name: "REBAR", parts: resizableParts }],
  [0x17, fixed("TPH", extended.TPH_REQUESTER_CAPABILITY)],
  [0x18, fixed("LTR", power.LTR_CAPABILITY)],
  [0x19, perLane("SECPCI", link.SECONDARY_PCIE_CAPABILITY, 0x0c, link.LANE_EQUALIZATION_8GT)],
  [0x1b, fixed("PASID", PASID_CAPABILITY)],
  [0x1d, fixed("DPC", errors.DOWNSTREAM_PORT_CONTAINMENT_CAPABILITY)],
  [0x1e, fixed("L1PM", power.L1_PM_SUBSTATES_CAPABILITY)],
  [0x1f, fixed("PTM", extended.PTM_CAPABILITY)],
  [0x23, fixed("DVSEC", extended.DESIGNATED_VENDOR_SPECIFIC_CAPABILITY)],
  [0x24, { name: "VF_REBAR", parts: resizableParts }],
  [0x25, fixed("DLF", link.DATA_LINK_FEATURE_CAPABILITY)],
  [0x26, perLane("PHY16", link.PHYSICAL_LAYER_16GT_CAPABILITY, 0x20, link.LANE_EQUALIZATION)],
  [0x27, perLane("LMR", link.LANE_MARGINING_CAPABILITY, 0x08, link.LANE_MARGINING)],
  [0x2a, perLane("PHY32", link.PHYSICAL_LAYER_32GT_CAPABILITY, 0x20, link.LANE_EQUALIZATION)],
  [0x2e, fixed("DOE2", extended.DOE_CAPABILITY)],
  [0x2f, fixed("DEV3", extended.DEVICE3_CAPABILITY)],
  [0x30, fixed("IDE", extended.IDE_CAPABILITY)],
]);
