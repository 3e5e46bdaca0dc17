/** Extended capabilities that a platform here has no use for, or that stand in images of real devices. */
import { bit, EXTENDED_CAPABILITY_HEAD, layout, RO, ROS, RW1C, RW1CS, RWS, reserved, uint } from "@iommukit/core";

export const DEVICE_SERIAL_NUMBER_CAPABILITY = layout(
  { name: "Device Serial Number Extended Capability", bits: 96, spec: "PCIe 7.9.3" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    SerialNumberLower: uint(63, 32, "EUI-64, low half", RO),
    SerialNumberUpper: uint(95, 64, "EUI-64, high half", RO),
  },
);

export const POWER_BUDGETING_CAPABILITY = layout(
  { name: "Power Budgeting Extended Capability", bits: 128, spec: "PCIe 7.8.1" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    DataSelect: uint(39, 32, "which operating condition Data shows"),
    Reserved5: reserved(63, 40),
    BasePower: uint(71, 64, "watts, scaled", RO),
    DataScale: uint(73, 72, "10^-n", RO),
    PMSubState: uint(76, 74, "", RO),
    PMState: uint(78, 77, "", RO),
    Type: uint(81, 79, "", RO),
    PowerRail: uint(84, 82, "", RO),
    Reserved: reserved(95, 85),
    SystemAllocated: bit(96, "already in the system's budget", RO),
    ExtendedPowerBudgetingSupported: bit(97, "", RO),
    ReservedD: reserved(127, 98),
  },
);

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

export const VENDOR_SPECIFIC_EXTENDED_CAPABILITY = layout(
  { name: "Vendor-Specific Extended Capability", bits: 64, spec: "PCIe 7.9.5" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    VSECID: uint(47, 32, "what the vendor calls it", RO),
    VSECRev: uint(51, 48, "", RO),
    VSECLength: uint(63, 52, "bytes, heads included", RO),
  },
);

export const ARI_CAPABILITY = layout(
  { name: "ARI Extended Capability", bits: 64, spec: "PCIe 7.8.8" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    MFVCFunctionGroupsCapability: bit(32, "", RO),
    ACSFunctionGroupsCapability: bit(33, "", RO),
    CapabilityReserved: reserved(39, 34),
    NextFunctionNumber: uint(47, 40, "0 ends the list", RO),
    MFVCFunctionGroupsEnable: bit(48, ""),
    ACSFunctionGroupsEnable: bit(49, ""),
    ControlReserved: reserved(51, 50),
    FunctionGroup: uint(54, 52, ""),
    ControlReserved2: reserved(63, 55),
  },
);

export const RESIZABLE_BAR_CAPABILITY = layout(
  { name: "Resizable BAR Extended Capability", bits: 32, spec: "PCIe 7.8.6" },
  { ...EXTENDED_CAPABILITY_HEAD },
);

export const RESIZABLE_BAR = layout(
  { name: "Resizable BAR", bits: 64, spec: "PCIe 7.8.6.2" },
  {
    Reserved: reserved(3, 0),
    SupportedSizes: uint(31, 4, "bit n: 2^(n+20) bytes", RO),
    BARIndex: uint(34, 32, "", RO),
    Reserved3: reserved(36, 35),
    NumberOfResizableBARs: uint(39, 37, "in the first one", RO),
    BARSize: uint(45, 40, "2^(n+20) bytes"),
    Reserved14: reserved(47, 46),
    SupportedSizesUpper: uint(63, 48, "2^48 bytes and up", RO),
  },
);

export const LTR_CAPABILITY = layout(
  { name: "Latency Tolerance Reporting Extended Capability", bits: 64, spec: "PCIe 7.8.2" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    MaxSnoopLatencyValue: uint(41, 32, ""),
    MaxSnoopLatencyScale: uint(44, 42, "32^n ns"),
    Reserved: reserved(47, 45),
    MaxNoSnoopLatencyValue: uint(57, 48, ""),
    MaxNoSnoopLatencyScale: uint(60, 58, "32^n ns"),
    Reserved7: reserved(63, 61),
  },
);

export const L1_PM_SUBSTATES_CAPABILITY = layout(
  { name: "L1 PM Substates Extended Capability", bits: 128, spec: "PCIe 7.8.3" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    PCIPML12Supported: bit(32, "", RO),
    PCIPML11Supported: bit(33, "", RO),
    ASPML12Supported: bit(34, "", RO),
    ASPML11Supported: bit(35, "", RO),
    L1PMSubstatesSupported: bit(36, "", RO),
    LinkActivationSupported: bit(37, "", RO),
    Reserved: reserved(39, 38),
    PortCommonModeRestoreTime: uint(47, 40, "µs", RO),
    PortTPowerOnScale: uint(49, 48, "", RO),
    Reserved6: reserved(50),
    PortTPowerOnValue: uint(55, 51, "", RO),
    Reserved7: reserved(63, 56),
    PCIPML12Enable: bit(64, ""),
    PCIPML11Enable: bit(65, ""),
    ASPML12Enable: bit(66, ""),
    ASPML11Enable: bit(67, ""),
    LinkActivationInterruptEnable: bit(68, ""),
    LinkActivationControl: bit(69, ""),
    Reserved8: reserved(71, 70),
    CommonModeRestoreTime: uint(79, 72, "µs"),
    LTRL12ThresholdValue: uint(89, 80, ""),
    ReservedB: reserved(92, 90),
    LTRL12ThresholdScale: uint(95, 93, "32^n ns"),
    TPowerOnScale: uint(97, 96, ""),
    ReservedC: reserved(98),
    TPowerOnValue: uint(103, 99, ""),
    ReservedD: reserved(127, 104),
  },
);

export const PTM_CAPABILITY = layout(
  { name: "Precision Time Measurement Extended Capability", bits: 96, spec: "PCIe 7.9.15" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    PTMRequesterCapable: bit(32, "", RO),
    PTMResponderCapable: bit(33, "", RO),
    PTMRootCapable: bit(34, "", RO),
    ePTMCapable: bit(35, "", RO),
    PTMPropagationDelayAdaptationCapable: bit(36, "", RO),
    Reserved: reserved(39, 37),
    LocalClockGranularity: uint(47, 40, "ns", RO),
    Reserved6: reserved(63, 48),
    PTMEnable: bit(64, ""),
    RootSelect: bit(65, ""),
    Reserved8: reserved(71, 66),
    EffectiveGranularity: uint(79, 72, "ns"),
    ReservedA: reserved(95, 80),
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

export const DOE_CAPABILITY = layout(
  { name: "Data Object Exchange Extended Capability", bits: 192, spec: "PCIe 7.9.24" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    DOEInterruptSupport: bit(32, "", RO),
    DOEInterruptMessageNumber: uint(43, 33, "", RO),
    DOEAttentionMechanismSupport: bit(44, "", RO),
    DOEAsyncMessageSupport: bit(45, "", RO),
    Reserved: reserved(63, 46),
    DOEAbort: bit(64, "", { access: "wo" }),
    DOEInterruptEnable: bit(65, ""),
    DOEAttentionNotNeeded: bit(66, ""),
    DOEAsyncMessageEnable: bit(67, ""),
    Reserved8: reserved(94, 68),
    DOEGo: bit(95, "", { access: "wo" }),
    DOEBusy: bit(96, "", RO),
    DOEInterruptStatus: bit(97, "", RW1C),
    DOEError: bit(98, "", RO),
    DOEAsyncMessageStatus: bit(99, "", RO),
    DOEAtAttention: bit(100, "", RO),
    ReservedC: reserved(126, 101),
    DataObjectReady: bit(127, "", RO),
    DOEWriteDataMailbox: uint(159, 128, "", { access: "wo" }),
    DOEReadDataMailbox: uint(191, 160, ""),
  },
);

export const DEVICE3_CAPABILITY = layout(
  { name: "Device 3 Extended Capability", bits: 128, spec: "PCIe 7.7.9" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    DeviceCapabilities3: uint(63, 32, "", RO),
    DeviceControl3: uint(95, 64, ""),
    DeviceStatus3: uint(127, 96, "", RO),
  },
);

export const IDE_CAPABILITY = layout(
  { name: "Integrity and Data Encryption Extended Capability", bits: 96, spec: "PCIe 7.9.26" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    LinkIDEStreamSupported: bit(32, "", RO),
    SelectiveIDEStreamsSupported: bit(33, "", RO),
    FlowThroughIDEStreamSupported: bit(34, "", RO),
    PartialHeaderEncryptionSupported: bit(35, "", RO),
    AggregationSupported: bit(36, "", RO),
    PCRCSupported: bit(37, "", RO),
    IDE_KMProtocolSupported: bit(38, "", RO),
    SelectiveIDEForConfigurationRequestsSupported: bit(39, "", RO),
    SupportedAlgorithms: uint(44, 40, "0: AES-GCM 256", RO),
    NumberOfTCsSupportedForLinkIDE: uint(47, 45, "minus one", RO),
    NumberOfSelectiveIDEStreamsSupported: uint(55, 48, "minus one", RO),
    TEELimitedStreamSupported: bit(56, "", RO),
    Reserved: reserved(63, 57),
    Reserved8: reserved(65, 64),
    FlowThroughIDEStreamEnabled: bit(66, ""),
    Reserved9: reserved(95, 67),
  },
);

export const AER_CAPABILITY = layout(
  { name: "Advanced Error Reporting Extended Capability", bits: 352, spec: "PCIe 7.8.4" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    UncorrectableErrorStatus: uint(63, 32, "", RW1CS),
    UncorrectableErrorMask: uint(95, 64, "", RWS),
    UncorrectableErrorSeverity: uint(127, 96, "", RWS),
    CorrectableErrorStatus: uint(159, 128, "", RW1CS),
    CorrectableErrorMask: uint(191, 160, "", RWS),
    FirstErrorPointer: uint(196, 192, "bit of the status that is first", ROS),
    ECRCGenerationCapable: bit(197, "", RO),
    ECRCGenerationEnable: bit(198, "", RWS),
    ECRCCheckCapable: bit(199, "", RO),
    ECRCCheckEnable: bit(200, "", RWS),
    MultipleHeaderRecordingCapable: bit(201, "", RO),
    MultipleHeaderRecordingEnable: bit(202, "", RWS),
    TLPPrefixLogPresent: bit(203, "", ROS),
    CompletionTimeoutPrefixHeaderLogCapable: bit(204, "", RO),
    HeaderLogSize: uint(209, 205, "", RO),
    LoggedTLPSize: uint(214, 210, "", ROS),
    Reserved: reserved(223, 215),
    HeaderLog0: uint(255, 224, "", ROS),
    HeaderLog1: uint(287, 256, "", ROS),
    HeaderLog2: uint(319, 288, "", ROS),
    HeaderLog3: uint(351, 320, "", ROS),
  },
);

export const AER_ROOT = layout(
  { name: "Root error registers", bits: 96, spec: "PCIe 7.8.4.9" },
  {
    CorrectableErrorReportingEnable: bit(0, ""),
    NonFatalErrorReportingEnable: bit(1, ""),
    FatalErrorReportingEnable: bit(2, ""),
    Reserved: reserved(31, 3),
    ERR_CORReceived: bit(32, "", RW1CS),
    MultipleERR_CORReceived: bit(33, "", RW1CS),
    ERR_FATALNONFATALReceived: bit(34, "", RW1CS),
    MultipleERR_FATALNONFATALReceived: bit(35, "", RW1CS),
    FirstUncorrectableFatal: bit(36, "", RW1CS),
    NonFatalErrorMessagesReceived: bit(37, "", RW1CS),
    FatalErrorMessagesReceived: bit(38, "", RW1CS),
    ERR_CORSubclass: uint(40, 39, "", ROS),
    Reserved4: reserved(58, 41),
    InterruptMessageNumber: uint(63, 59, "", RO),
    ERR_CORSourceIdentification: uint(79, 64, "", ROS),
    ERR_FATALNONFATALSourceIdentification: uint(95, 80, "", ROS),
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
