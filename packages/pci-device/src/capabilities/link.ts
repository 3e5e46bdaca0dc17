/** Extended capabilities about links, lanes and virtual channels. They stand in images of real devices. */
import { bit, EXTENDED_CAPABILITY_HEAD, layout, RO, ROS, RW1CS, reserved, uint } from "@iommukit/core";

export const LINK_DECLARATION_CAPABILITY = layout(
  { name: "Root Complex Link Declaration Extended Capability", bits: 128, spec: "PCIe 7.9.8" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    ElementType: uint(35, 32, "0: configuration space, 1: egress port, 2: internal link", RO),
    Reserved: reserved(39, 36),
    NumberOfLinkEntries: uint(47, 40, "entries that follow", RO),
    ComponentID: uint(55, 48, "", RO),
    PortNumber: uint(63, 56, "", RO),
    Reserved8: reserved(127, 64),
  },
);

export const LINK_ENTRY = layout(
  { name: "Link Entry", bits: 128, spec: "PCIe 7.9.8.3" },
  {
    LinkValid: bit(0, "", RO),
    LinkType: bit(1, "0: memory-mapped, 1: configuration space", RO),
    AssociateRCRBHeader: bit(2, "", RO),
    Reserved: reserved(15, 3),
    TargetComponentID: uint(23, 16, "", RO),
    TargetPortNumber: uint(31, 24, "", RO),
    Reserved4: reserved(63, 32),
    LinkAddressLow: uint(95, 64, "", RO),
    LinkAddressHigh: uint(127, 96, "", RO),
  },
);

export const DATA_LINK_FEATURE_CAPABILITY = layout(
  { name: "Data Link Feature Extended Capability", bits: 96, spec: "PCIe 7.7.4" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    LocalDataLinkFeatureSupported: uint(54, 32, "bit 0: scaled flow control", RO),
    Reserved: reserved(62, 55),
    DataLinkFeatureExchangeEnable: bit(63, "", RO),
    RemoteDataLinkFeatureSupported: uint(86, 64, "", RO),
    Reserved8: reserved(94, 87),
    RemoteDataLinkFeatureSupportedValid: bit(95, "", RO),
  },
);

export const VIRTUAL_CHANNEL_CAPABILITY = layout(
  { name: "Virtual Channel Extended Capability", bits: 128, spec: "PCIe 7.9.1" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    ExtendedVCCount: uint(34, 32, "VCs besides VC0", RO),
    Reserved: reserved(35),
    LowPriorityExtendedVCCount: uint(38, 36, "", RO),
    Reserved2: reserved(39),
    ReferenceClock: uint(41, 40, "", RO),
    PortArbitrationTableEntrySize: uint(43, 42, "", RO),
    Reserved5: reserved(63, 44),
    VCArbitrationCapability: uint(71, 64, "", RO),
    Reserved8: reserved(87, 72),
    VCArbitrationTableOffset: uint(95, 88, "in units of 16 bytes", RO),
    LoadVCArbitrationTable: bit(96, "", { access: "wo" }),
    VCArbitrationSelect: uint(99, 97, ""),
    ReservedC: reserved(111, 100),
    VCArbitrationTableStatus: bit(112, "", RO),
    ReservedE: reserved(127, 113),
  },
);

export const VC_RESOURCE = layout(
  { name: "VC Resource", bits: 96, spec: "PCIe 7.9.1.5" },
  {
    PortArbitrationCapability: uint(7, 0, "", RO),
    Reserved: reserved(13, 8),
    Undefined: bit(14, "", RO),
    RejectSnoopTransactions: bit(15, "", RO),
    MaximumTimeSlots: uint(22, 16, "", RO),
    Reserved2: reserved(23),
    PortArbitrationTableOffset: uint(31, 24, "in units of 16 bytes", RO),
    TCVCMap: uint(39, 32, "traffic classes"),
    Reserved5: reserved(47, 40),
    LoadPortArbitrationTable: bit(48, "", { access: "wo" }),
    PortArbitrationSelect: uint(51, 49, ""),
    Reserved6: reserved(55, 52),
    VCID: uint(58, 56, ""),
    Reserved7: reserved(62, 59),
    VCEnable: bit(63, ""),
    Reserved8: reserved(79, 64),
    PortArbitrationTableStatus: bit(80, "", RO),
    VCNegotiationPending: bit(81, "", RO),
    ReservedA: reserved(95, 82),
  },
);

export const SECONDARY_PCIE_CAPABILITY = layout(
  { name: "Secondary PCI Express Extended Capability", bits: 96, spec: "PCIe 7.7.3" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    PerformEqualization: bit(32, ""),
    LinkEqualizationRequestInterruptEnable: bit(33, ""),
    Reserved: reserved(40, 34),
    EnableLowerSKPOSGenerationVector: uint(47, 41, ""),
    Reserved6: reserved(63, 48),
    LaneErrorStatus: uint(95, 64, "one bit per lane", RW1CS),
  },
);

export const LANE_EQUALIZATION_8GT = layout(
  { name: "Lane Equalization Control at 8 GT/s", bits: 16, spec: "PCIe 7.7.3.4" },
  {
    DownstreamPortTransmitterPreset: uint(3, 0, "", RO),
    DownstreamPortReceiverPresetHint: uint(6, 4, "", RO),
    Reserved: reserved(7),
    UpstreamPortTransmitterPreset: uint(11, 8, "", RO),
    UpstreamPortReceiverPresetHint: uint(14, 12, "", RO),
    Reserved1: reserved(15),
  },
);

export const PHYSICAL_LAYER_16GT_CAPABILITY = layout(
  { name: "Physical Layer 16.0 GT/s Extended Capability", bits: 256, spec: "PCIe 7.7.5" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    Capabilities: uint(63, 32, "", RO),
    Control: uint(95, 64, ""),
    EqualizationComplete: bit(96, "", ROS),
    EqualizationPhase1Successful: bit(97, "", ROS),
    EqualizationPhase2Successful: bit(98, "", ROS),
    EqualizationPhase3Successful: bit(99, "", ROS),
    LinkEqualizationRequest: bit(100, "", RW1CS),
    Reserved: reserved(127, 101),
    LocalDataParityMismatchStatus: uint(159, 128, "", RW1CS),
    FirstRetimerDataParityMismatchStatus: uint(191, 160, "", RW1CS),
    SecondRetimerDataParityMismatchStatus: uint(223, 192, "", RW1CS),
    Reserved1C: reserved(255, 224),
  },
);

export const PHYSICAL_LAYER_32GT_CAPABILITY = layout(
  { name: "Physical Layer 32.0 GT/s Extended Capability", bits: 256, spec: "PCIe 7.7.6" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    Capabilities: uint(63, 32, "", RO),
    Control: uint(95, 64, ""),
    Status: uint(127, 96, "", RW1CS),
    ReceivedModifiedTSData1: uint(159, 128, "", RO),
    ReceivedModifiedTSData2: uint(191, 160, "", RO),
    TransmittedModifiedTSData1: uint(223, 192, "", RO),
    TransmittedModifiedTSData2: uint(255, 224, "", RO),
  },
);

export const LANE_EQUALIZATION = layout(
  { name: "Lane Equalization Control at 16 GT/s and above", bits: 8, spec: "PCIe 7.7.5.9" },
  {
    DownstreamPortTransmitterPreset: uint(3, 0, "", RO),
    UpstreamPortTransmitterPreset: uint(7, 4, "", RO),
  },
);

export const LANE_MARGINING_CAPABILITY = layout(
  { name: "Lane Margining at the Receiver Extended Capability", bits: 64, spec: "PCIe 7.7.10" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    MarginingUsesDriverSoftware: bit(32, "", RO),
    Reserved: reserved(47, 33),
    MarginingReady: bit(48, "", RO),
    MarginingSoftwareReady: bit(49, "", RO),
    Reserved6: reserved(63, 50),
  },
);

export const LANE_MARGINING = layout(
  { name: "Margining Lane", bits: 32, spec: "PCIe 7.7.10.3" },
  {
    ReceiverNumber: uint(2, 0, ""),
    MarginType: uint(5, 3, ""),
    UsageModel: bit(6, ""),
    Reserved: reserved(7),
    MarginPayload: uint(15, 8, ""),
    ReceiverNumberStatus: uint(18, 16, "", RO),
    MarginTypeStatus: uint(21, 19, "", RO),
    UsageModelStatus: bit(22, "", RO),
    Reserved2: reserved(23),
    MarginPayloadStatus: uint(31, 24, "", RO),
  },
);
