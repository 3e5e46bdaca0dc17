/** Extended capabilities about links, lanes and virtual channels. They stand in images of real devices. */
import { bit, EXTENDED_CAPABILITY_HEAD, layout, RO, ROS, RW1CS, reserved, uint } from "@iommukit/core";

export const LINK_DECLARATION_CAPABILITY = layout(
  { name: "Root Complex Link Declaration Extended Capability", bits: 128, spec: "PCIe 7.9.8" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    ElementType: uint(35, 32, "0: configuration space, 1: egress port, 2: internal link", RO),
    Reserved: reserved(39, 36),
    NumberOfLinkEntries: uint(47, 40, "entries that follow", RO),
    ComponentID: uint(55, 48, "component ID", RO),
    PortNumber: uint(63, 56, "port number", RO),
    Reserved8: reserved(127, 64),
  },
);

export const LINK_ENTRY = layout(
  { name: "Link Entry", bits: 128, spec: "PCIe 7.9.8.3" },
  {
    LinkValid: bit(0, "link valid", RO),
    LinkType: bit(1, "0: memory-mapped, 1: configuration space", RO),
    AssociateRCRBHeader: bit(2, "associate RCRB header", RO),
    Reserved: reserved(15, 3),
    TargetComponentID: uint(23, 16, "target component ID", RO),
    TargetPortNumber: uint(31, 24, "target port number", RO),
    Reserved4: reserved(63, 32),
    LinkAddressLow: uint(95, 64, "link address low", RO),
    LinkAddressHigh: uint(127, 96, "link address high", RO),
  },
);

export const DATA_LINK_FEATURE_CAPABILITY = layout(
  { name: "Data Link Feature Extended Capability", bits: 96, spec: "PCIe 7.7.4" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    LocalDataLinkFeatureSupported: uint(54, 32, "bit 0: scaled flow control", RO),
    Reserved: reserved(62, 55),
    DataLinkFeatureExchangeEnable: bit(63, "data link feature exchange enable", RO),
    RemoteDataLinkFeatureSupported: uint(86, 64, "remote data link feature supported", RO),
    Reserved8: reserved(94, 87),
    RemoteDataLinkFeatureSupportedValid: bit(95, "remote data link feature supported valid", RO),
  },
);

export const VIRTUAL_CHANNEL_CAPABILITY = layout(
  { name: "Virtual Channel Extended Capability", bits: 128, spec: "PCIe 7.9.1" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    ExtendedVCCount: uint(34, 32, "VCs besides VC0", RO),
    Reserved: reserved(35),
    LowPriorityExtendedVCCount: uint(38, 36, "low priority extended VC count", RO),
    Reserved2: reserved(39),
    ReferenceClock: uint(41, 40, "reference clock", RO),
    PortArbitrationTableEntrySize: uint(43, 42, "port arbitration table entry size", RO),
    Reserved5: reserved(63, 44),
    VCArbitrationCapability: uint(71, 64, "VC arbitration capability", RO),
    Reserved8: reserved(87, 72),
    VCArbitrationTableOffset: uint(95, 88, "in units of 16 bytes", RO),
    LoadVCArbitrationTable: bit(96, "load VC arbitration table", { access: "wo" }),
    VCArbitrationSelect: uint(99, 97, "VC arbitration select"),
    ReservedC: reserved(111, 100),
    VCArbitrationTableStatus: bit(112, "VC arbitration table status", RO),
    ReservedE: reserved(127, 113),
  },
);

export const VC_RESOURCE = layout(
  { name: "VC Resource", bits: 96, spec: "PCIe 7.9.1.5" },
  {
    PortArbitrationCapability: uint(7, 0, "port arbitration capability", RO),
    Reserved: reserved(13, 8),
    Undefined: bit(14, "undefined", RO),
    RejectSnoopTransactions: bit(15, "reject snoop transactions", RO),
    MaximumTimeSlots: uint(22, 16, "maximum time slots", RO),
    Reserved2: reserved(23),
    PortArbitrationTableOffset: uint(31, 24, "in units of 16 bytes", RO),
    TCVCMap: uint(39, 32, "traffic classes"),
    Reserved5: reserved(47, 40),
    LoadPortArbitrationTable: bit(48, "load port arbitration table", { access: "wo" }),
    PortArbitrationSelect: uint(51, 49, "port arbitration select"),
    Reserved6: reserved(55, 52),
    VCID: uint(58, 56, "VCID"),
    Reserved7: reserved(62, 59),
    VCEnable: bit(63, "VC enable"),
    Reserved8: reserved(79, 64),
    PortArbitrationTableStatus: bit(80, "port arbitration table status", RO),
    VCNegotiationPending: bit(81, "VC negotiation pending", RO),
    ReservedA: reserved(95, 82),
  },
);

export const SECONDARY_PCIE_CAPABILITY = layout(
  { name: "Secondary PCI Express Extended Capability", bits: 96, spec: "PCIe 7.7.3" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    PerformEqualization: bit(32, "perform equalization"),
    LinkEqualizationRequestInterruptEnable: bit(33, "link equalization request interrupt enable"),
    Reserved: reserved(40, 34),
    EnableLowerSKPOSGenerationVector: uint(47, 41, "enable lower SKPOS generation vector"),
    Reserved6: reserved(63, 48),
    LaneErrorStatus: uint(95, 64, "one bit per lane", RW1CS),
  },
);

export const LANE_EQUALIZATION_8GT = layout(
  { name: "Lane Equalization Control at 8 GT/s", bits: 16, spec: "PCIe 7.7.3.4" },
  {
    DownstreamPortTransmitterPreset: uint(3, 0, "downstream port transmitter preset", RO),
    DownstreamPortReceiverPresetHint: uint(6, 4, "downstream port receiver preset hint", RO),
    Reserved: reserved(7),
    UpstreamPortTransmitterPreset: uint(11, 8, "upstream port transmitter preset", RO),
    UpstreamPortReceiverPresetHint: uint(14, 12, "upstream port receiver preset hint", RO),
    Reserved1: reserved(15),
  },
);

export const PHYSICAL_LAYER_16GT_CAPABILITY = layout(
  { name: "Physical Layer 16.0 GT/s Extended Capability", bits: 256, spec: "PCIe 7.7.5" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    Capabilities: uint(63, 32, "capabilities", RO),
    Control: uint(95, 64, "control"),
    EqualizationComplete: bit(96, "equalization complete", ROS),
    EqualizationPhase1Successful: bit(97, "equalization Phase1 successful", ROS),
    EqualizationPhase2Successful: bit(98, "equalization Phase2 successful", ROS),
    EqualizationPhase3Successful: bit(99, "equalization Phase3 successful", ROS),
    LinkEqualizationRequest: bit(100, "link equalization request", RW1CS),
    Reserved: reserved(127, 101),
    LocalDataParityMismatchStatus: uint(159, 128, "local data parity mismatch status", RW1CS),
    FirstRetimerDataParityMismatchStatus: uint(191, 160, "first retimer data parity mismatch status", RW1CS),
    SecondRetimerDataParityMismatchStatus: uint(223, 192, "second retimer data parity mismatch status", RW1CS),
    Reserved1C: reserved(255, 224),
  },
);

export const PHYSICAL_LAYER_32GT_CAPABILITY = layout(
  { name: "Physical Layer 32.0 GT/s Extended Capability", bits: 256, spec: "PCIe 7.7.6" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    Capabilities: uint(63, 32, "capabilities", RO),
    Control: uint(95, 64, "control"),
    Status: uint(127, 96, "status", RW1CS),
    ReceivedModifiedTSData1: uint(159, 128, "received modified TS Data1", RO),
    ReceivedModifiedTSData2: uint(191, 160, "received modified TS Data2", RO),
    TransmittedModifiedTSData1: uint(223, 192, "transmitted modified TS Data1", RO),
    TransmittedModifiedTSData2: uint(255, 224, "transmitted modified TS Data2", RO),
  },
);

export const LANE_EQUALIZATION = layout(
  { name: "Lane Equalization Control at 16 GT/s and above", bits: 8, spec: "PCIe 7.7.5.9" },
  {
    DownstreamPortTransmitterPreset: uint(3, 0, "downstream port transmitter preset", RO),
    UpstreamPortTransmitterPreset: uint(7, 4, "upstream port transmitter preset", RO),
  },
);

export const LANE_MARGINING_CAPABILITY = layout(
  { name: "Lane Margining at the Receiver Extended Capability", bits: 64, spec: "PCIe 7.7.10" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    MarginingUsesDriverSoftware: bit(32, "margining uses driver software", RO),
    Reserved: reserved(47, 33),
    MarginingReady: bit(48, "margining ready", RO),
    MarginingSoftwareReady: bit(49, "margining software ready", RO),
    Reserved6: reserved(63, 50),
  },
);

export const LANE_MARGINING = layout(
  { name: "Margining Lane", bits: 32, spec: "PCIe 7.7.10.3" },
  {
    ReceiverNumber: uint(2, 0, "receiver number"),
    MarginType: uint(5, 3, "margin type"),
    UsageModel: bit(6, "usage model"),
    Reserved: reserved(7),
    MarginPayload: uint(15, 8, "margin payload"),
    ReceiverNumberStatus: uint(18, 16, "receiver number status", RO),
    MarginTypeStatus: uint(21, 19, "margin type status", RO),
    UsageModelStatus: bit(22, "usage model status", RO),
    Reserved2: reserved(23),
    MarginPayloadStatus: uint(31, 24, "margin payload status", RO),
  },
);
