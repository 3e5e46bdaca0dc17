/** Other extended capabilities that a platform here has no use for, or that stand in images of real devices. */
import { bit, EXTENDED_CAPABILITY_HEAD, layout, RO, RW1C, reserved, uint } from "@iommukit/core";

export const DEVICE_SERIAL_NUMBER_CAPABILITY = layout(
  { name: "Device Serial Number Extended Capability", bits: 96, spec: "PCIe 7.9.3" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    SerialNumberLower: uint(63, 32, "EUI-64, low half", RO),
    SerialNumberUpper: uint(95, 64, "EUI-64, high half", RO),
  },
);

export const VENDOR_SPECIFIC_EXTENDED_CAPABILITY = layout(
  { name: "Vendor-Specific Extended Capability", bits: 64, spec: "PCIe 7.9.5" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    VSECID: uint(47, 32, "what the vendor calls it", RO),
    VSECRev: uint(51, 48, "VSEC rev", RO),
    VSECLength: uint(63, 52, "bytes, heads included", RO),
  },
);

export const ARI_CAPABILITY = layout(
  { name: "ARI Extended Capability", bits: 64, spec: "PCIe 7.8.8" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    MFVCFunctionGroupsCapability: bit(32, "MFVC function groups capability", RO),
    ACSFunctionGroupsCapability: bit(33, "ACS function groups capability", RO),
    CapabilityReserved: reserved(39, 34),
    NextFunctionNumber: uint(47, 40, "0 ends the list", RO),
    MFVCFunctionGroupsEnable: bit(48, "MFVC function groups enable"),
    ACSFunctionGroupsEnable: bit(49, "ACS function groups enable"),
    ControlReserved: reserved(51, 50),
    FunctionGroup: uint(54, 52, "function group"),
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
    BARIndex: uint(34, 32, "BAR index", RO),
    Reserved3: reserved(36, 35),
    NumberOfResizableBARs: uint(39, 37, "in the first one", RO),
    BARSize: uint(45, 40, "2^(n+20) bytes"),
    Reserved14: reserved(47, 46),
    SupportedSizesUpper: uint(63, 48, "2^48 bytes and up", RO),
  },
);

export const PTM_CAPABILITY = layout(
  { name: "Precision Time Measurement Extended Capability", bits: 96, spec: "PCIe 7.9.15" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    PTMRequesterCapable: bit(32, "PTM requester capable", RO),
    PTMResponderCapable: bit(33, "PTM responder capable", RO),
    PTMRootCapable: bit(34, "PTM root capable", RO),
    ePTMCapable: bit(35, "e PTM capable", RO),
    PTMPropagationDelayAdaptationCapable: bit(36, "PTM propagation delay adaptation capable", RO),
    Reserved: reserved(39, 37),
    LocalClockGranularity: uint(47, 40, "ns", RO),
    Reserved6: reserved(63, 48),
    PTMEnable: bit(64, "PTM enable"),
    RootSelect: bit(65, "root select"),
    Reserved8: reserved(71, 66),
    EffectiveGranularity: uint(79, 72, "ns"),
    ReservedA: reserved(95, 80),
  },
);

export const DOE_CAPABILITY = layout(
  { name: "Data Object Exchange Extended Capability", bits: 192, spec: "PCIe 7.9.24" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    DOEInterruptSupport: bit(32, "DOE interrupt support", RO),
    DOEInterruptMessageNumber: uint(43, 33, "DOE interrupt message number", RO),
    DOEAttentionMechanismSupport: bit(44, "DOE attention mechanism support", RO),
    DOEAsyncMessageSupport: bit(45, "DOE async message support", RO),
    Reserved: reserved(63, 46),
    DOEAbort: bit(64, "DOE abort", { access: "wo" }),
    DOEInterruptEnable: bit(65, "DOE interrupt enable"),
    DOEAttentionNotNeeded: bit(66, "DOE attention not needed"),
    DOEAsyncMessageEnable: bit(67, "DOE async message enable"),
    Reserved8: reserved(94, 68),
    DOEGo: bit(95, "DOE go", { access: "wo" }),
    DOEBusy: bit(96, "DOE busy", RO),
    DOEInterruptStatus: bit(97, "DOE interrupt status", RW1C),
    DOEError: bit(98, "DOE error", RO),
    DOEAsyncMessageStatus: bit(99, "DOE async message status", RO),
    DOEAtAttention: bit(100, "DOE at attention", RO),
    ReservedC: reserved(126, 101),
    DataObjectReady: bit(127, "data object ready", RO),
    DOEWriteDataMailbox: uint(159, 128, "DOE write data mailbox", { access: "wo" }),
    DOEReadDataMailbox: uint(191, 160, "DOE read data mailbox"),
  },
);

export const DEVICE3_CAPABILITY = layout(
  { name: "Device 3 Extended Capability", bits: 128, spec: "PCIe 7.7.9" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    DeviceCapabilities3: uint(63, 32, "device Capabilities3", RO),
    DeviceControl3: uint(95, 64, "device Control3"),
    DeviceStatus3: uint(127, 96, "device Status3", RO),
  },
);

export const IDE_CAPABILITY = layout(
  { name: "Integrity and Data Encryption Extended Capability", bits: 96, spec: "PCIe 7.9.26" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    LinkIDEStreamSupported: bit(32, "link IDE stream supported", RO),
    SelectiveIDEStreamsSupported: bit(33, "selective IDE streams supported", RO),
    FlowThroughIDEStreamSupported: bit(34, "flow through IDE stream supported", RO),
    PartialHeaderEncryptionSupported: bit(35, "partial header encryption supported", RO),
    AggregationSupported: bit(36, "aggregation supported", RO),
    PCRCSupported: bit(37, "PCRC supported", RO),
    IDE_KMProtocolSupported: bit(38, "IDE KM protocol supported", RO),
    SelectiveIDEForConfigurationRequestsSupported: bit(39, "selective IDE for configuration requests supported", RO),
    SupportedAlgorithms: uint(44, 40, "0: AES-GCM 256", RO),
    NumberOfTCsSupportedForLinkIDE: uint(47, 45, "minus one", RO),
    NumberOfSelectiveIDEStreamsSupported: uint(55, 48, "minus one", RO),
    TEELimitedStreamSupported: bit(56, "TEE limited stream supported", RO),
    Reserved: reserved(63, 57),
    Reserved8: reserved(65, 64),
    FlowThroughIDEStreamEnabled: bit(66, "flow through IDE stream enabled"),
    Reserved9: reserved(95, 67),
  },
);

export const EVENT_COLLECTOR_CAPABILITY = layout(
  { name: "Root Complex Event Collector Endpoint Association Extended Capability", bits: 96, spec: "PCIe 7.9.10" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    AssociationBitmap: uint(63, 32, "bit n: device n of the same bus", RO),
    Reserved8: reserved(71, 64),
    RCECNextBus: uint(79, 72, "first of a range of buses; 0xff: none", RO),
    RCECLastBus: uint(87, 80, "last of the range", RO),
    ReservedB: reserved(95, 88),
  },
);

export const MULTICAST_CAPABILITY = layout(
  { name: "Multicast Extended Capability", bits: 384, spec: "PCIe 7.9.11" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    MC_Max_Group: uint(37, 32, "groups, minus one", RO),
    Reserved: reserved(39, 38),
    MC_Window_Size_Requested: uint(45, 40, "2^n bytes; endpoints", RO),
    Reserved6: reserved(46),
    MC_ECRC_Regeneration_Supported: bit(47, "ports only", RO),
    MC_Num_Group: uint(53, 48, "groups in use, minus one"),
    Reserved7: reserved(62, 54),
    MC_Enable: bit(63, "multicast works"),
    MC_Index_Position: uint(69, 64, "lowest bit of the group in the address"),
    Reserved8: reserved(75, 70),
    MC_Base_AddressLow: uint(95, 76, "address bits 31:12"),
    MC_Base_AddressHigh: uint(127, 96, "address bits 63:32"),
    MC_ReceiveLow: uint(159, 128, "bit n: take what goes to group n"),
    MC_ReceiveHigh: uint(191, 160, "groups 32 to 63"),
    MC_Block_AllLow: uint(223, 192, "bit n: send nothing to group n"),
    MC_Block_AllHigh: uint(255, 224, "groups 32 to 63"),
    MC_Block_UntranslatedLow: uint(287, 256, "bit n: nothing that is untranslated"),
    MC_Block_UntranslatedHigh: uint(319, 288, "groups 32 to 63"),
    MC_OverlayLow: uint(351, 320, "size in bits 5:0, address bits 31:6; ports only"),
    MC_OverlayHigh: uint(383, 352, "address bits 63:32"),
  },
);

export const TPH_REQUESTER_CAPABILITY = layout(
  { name: "TPH Requester Extended Capability", bits: 96, spec: "PCIe 7.9.13" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    NoSTModeSupported: bit(32, "no ST mode supported", RO),
    InterruptVectorModeSupported: bit(33, "interrupt vector mode supported", RO),
    DeviceSpecificModeSupported: bit(34, "device specific mode supported", RO),
    Reserved: reserved(39, 35),
    ExtendedTPHRequesterSupported: bit(40, "extended TPH requester supported", RO),
    STTableLocation: uint(42, 41, "0: none, 1: here, 2: in the MSI-X table", RO),
    Reserved5: reserved(47, 43),
    STTableSize: uint(58, 48, "entries, minus one", RO),
    Reserved7: reserved(63, 59),
    STModeSelect: uint(66, 64, "0: no ST, 1: interrupt vector, 2: device specific"),
    Reserved8: reserved(71, 67),
    TPHRequesterEnable: uint(73, 72, "0: off, 1: TPH, 3: TPH and extended TPH"),
    Reserved9: reserved(95, 74),
  },
);

export const DESIGNATED_VENDOR_SPECIFIC_CAPABILITY = layout(
  { name: "Designated Vendor-Specific Extended Capability", bits: 80, spec: "PCIe 7.9.6" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    DVSECVendorID: uint(47, 32, "who says what it means", RO),
    DVSECRevision: uint(51, 48, "DVSEC revision", RO),
    DVSECLength: uint(63, 52, "bytes, heads included", RO),
    DVSECID: uint(79, 64, "what that vendor calls it", RO),
  },
);
