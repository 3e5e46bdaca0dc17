/** Capabilities of conventional PCI and those below 0x100 that a platform here has no use for: read and written as tables. */
import { bit, CAPABILITY_HEAD, layout, oneOf, RO, RW1C, reserved, uint } from "@iommukit/core";

export const AGP_CAPABILITY = layout(
  { name: "AGP Capability", bits: 96, spec: "AGP 3.0 5.1" },
  {
    ...CAPABILITY_HEAD,
    MinorRevision: uint(19, 16, "of AGP", RO),
    MajorRevision: uint(23, 20, "of AGP", RO),
    Reserved3: reserved(31, 24),
    AGPStatus: uint(63, 32, "rates, side band, queue depth", RO),
    AGPCommand: uint(95, 64, "what is enabled of it"),
  },
);

export const VPD_CAPABILITY = layout(
  { name: "VPD Capability", bits: 64, spec: "PCIe 7.9.18" },
  {
    ...CAPABILITY_HEAD,
    VPDAddress: uint(30, 16, "byte address of the data"),
    F: bit(31, "1 after a read, 0 after a write: done"),
    VPDData: uint(63, 32, "the four bytes there"),
  },
);

export const SLOT_IDENTIFICATION_CAPABILITY = layout(
  { name: "Slot Numbering Capability", bits: 32, spec: "PCI Bridge 1.2 3.2.6.2" },
  {
    ...CAPABILITY_HEAD,
    ExpansionSlotsProvided: uint(20, 16, "slots behind the bridge", RO),
    FirstInChassis: bit(21, "first bridge of an expansion chassis", RO),
    Reserved: reserved(23, 22),
    ChassisNumber: uint(31, 24, "chassis number"),
  },
);

export const HYPERTRANSPORT_CAPABILITY = layout(
  { name: "HyperTransport Capability", bits: 32, spec: "HyperTransport 3.1 7.3" },
  {
    ...CAPABILITY_HEAD,
    TypeSpecific: uint(26, 16, "what the type says"),
    CapabilityType: uint(31, 27, "0b000xx: slave or primary, 0b001xx: host or secondary, 0x15: MSI mapping, …", RO),
  },
);

export const HOTSWAP_CAPABILITY = layout(
  { name: "CompactPCI Hot Swap Capability", bits: 32, spec: "PICMG 2.1" },
  {
    ...CAPABILITY_HEAD,
    DHA: bit(16, "device hiding arm"),
    EIM: bit(17, "ENUM# mask"),
    PIE: bit(18, "pending insert or extract", RO),
    LOO: bit(19, "LED on"),
    PI: uint(21, 20, "programming interface", RO),
    EXT: bit(22, "ENUM# for extraction", RW1C),
    INS: bit(23, "ENUM# for insertion", RW1C),
    Reserved3: reserved(31, 24),
  },
);

export const PCIX_CAPABILITY = layout(
  { name: "PCI-X Capability", bits: 64, spec: "PCI-X 2.0 7.2" },
  {
    ...CAPABILITY_HEAD,
    DataParityErrorRecoveryEnable: bit(16, "goes on after a parity error"),
    EnableRelaxedOrdering: bit(17, "may set the attribute"),
    MaximumMemoryReadByteCount: uint(19, 18, "512 << n"),
    MaximumOutstandingSplitTransactions: uint(22, 20, "code"),
    CommandReserved: reserved(27, 23),
    Version: uint(29, 28, "of the capability", RO),
    CommandReserved2: reserved(31, 30),
    FunctionNumber: uint(34, 32, "captured", RO),
    DeviceNumber: uint(39, 35, "captured", RO),
    BusNumber: uint(47, 40, "captured", RO),
    Device64Bit: bit(48, "64-bit interface", RO),
    Capable133MHz: bit(49, "Capable133 m hz", RO),
    SplitCompletionDiscarded: bit(50, "split completion discarded", RW1C),
    UnexpectedSplitCompletion: bit(51, "unexpected split completion", RW1C),
    DeviceComplexity: bit(52, "1: bridge", RO),
    DesignedMaximumMemoryReadByteCount: uint(54, 53, "512 << n", RO),
    DesignedMaximumOutstandingSplitTransactions: uint(57, 55, "code", RO),
    DesignedMaximumCumulativeReadSize: uint(60, 58, "code", RO),
    ReceivedSplitCompletionErrorMessage: bit(61, "received split completion error message", RW1C),
    Capable266MHz: bit(62, "Capable266 m hz", RO),
    Capable533MHz: bit(63, "Capable533 m hz", RO),
  },
);

export const PCIX_BRIDGE_CAPABILITY = layout(
  { name: "PCI-X Bridge Capability", bits: 128, spec: "PCI-X 2.0 8.6" },
  {
    ...CAPABILITY_HEAD,
    Secondary64Bit: bit(16, "64-bit secondary interface", RO),
    Secondary133MHzCapable: bit(17, "Secondary133 m hz capable", RO),
    SecondarySplitCompletionDiscarded: bit(18, "secondary split completion discarded", RW1C),
    SecondaryUnexpectedSplitCompletion: bit(19, "secondary unexpected split completion", RW1C),
    SecondarySplitCompletionOverrun: bit(20, "secondary split completion overrun", RW1C),
    SecondarySplitRequestDelayed: bit(21, "secondary split request delayed", RW1C),
    SecondaryClockFrequency: uint(25, 22, "code", RO),
    SecondaryReserved: reserved(27, 26),
    Version: uint(29, 28, "of the capability", RO),
    Secondary266MHzCapable: bit(30, "Secondary266 m hz capable", RO),
    Secondary533MHzCapable: bit(31, "Secondary533 m hz capable", RO),
    FunctionNumber: uint(34, 32, "captured", RO),
    DeviceNumber: uint(39, 35, "captured", RO),
    BusNumber: uint(47, 40, "captured", RO),
    Device64Bit: bit(48, "64-bit primary interface", RO),
    Capable133MHz: bit(49, "Capable133 m hz", RO),
    SplitCompletionDiscarded: bit(50, "split completion discarded", RW1C),
    UnexpectedSplitCompletion: bit(51, "unexpected split completion", RW1C),
    SplitCompletionOverrun: bit(52, "split completion overrun", RW1C),
    SplitRequestDelayed: bit(53, "split request delayed", RW1C),
    StatusReserved: reserved(61, 54),
    Capable266MHz: bit(62, "Capable266 m hz", RO),
    Capable533MHz: bit(63, "Capable533 m hz", RO),
    UpstreamSplitTransactionCapacity: uint(79, 64, "upstream split transaction capacity", RO),
    UpstreamSplitTransactionLimit: uint(95, 80, "upstream split transaction limit"),
    DownstreamSplitTransactionCapacity: uint(111, 96, "downstream split transaction capacity", RO),
    DownstreamSplitTransactionLimit: uint(127, 112, "downstream split transaction limit"),
  },
);

export const VENDOR_SPECIFIC_CAPABILITY = layout(
  { name: "Vendor-Specific Capability", bits: 32, spec: "PCIe 7.9.4" },
  {
    ...CAPABILITY_HEAD,
    CapabilityLength: uint(23, 16, "bytes, head included", RO),
    VendorSpecific: uint(31, 24, "as the vendor says", RO),
  },
);

export const DEBUG_PORT_CAPABILITY = layout(
  { name: "Debug Port Capability", bits: 32, spec: "EHCI debug port 2.1" },
  {
    ...CAPABILITY_HEAD,
    Offset: uint(28, 16, "in the BAR", RO),
    BAR: uint(31, 29, "1 to 6", RO),
  },
);

export const HOTPLUG_CAPABILITY = layout(
  { name: "Standard Hot-Plug Controller Capability", bits: 64, spec: "SHPC 1.0 4.3" },
  {
    ...CAPABILITY_HEAD,
    DWORDSelect: uint(23, 16, "which register of the controller Data is"),
    Reserved3: reserved(29, 24),
    ControllerSERRPending: bit(30, "controller SERR pending", RO),
    ControllerInterruptPending: bit(31, "controller interrupt pending", RO),
    DWORDData: uint(63, 32, "the register"),
  },
);

export const SUBSYSTEM_ID_CAPABILITY = layout(
  { name: "Subsystem ID Capability", bits: 64, spec: "PCIe 7.9.23" },
  {
    ...CAPABILITY_HEAD,
    Reserved2: reserved(31, 16),
    SubsystemVendorID: uint(47, 32, "manufacturer of the board", RO),
    SubsystemID: uint(63, 48, "board", RO),
  },
);

export const SATA_CAPABILITY = layout(
  { name: "SATA Capability", bits: 64, spec: "AHCI 1.3 2.4" },
  {
    ...CAPABILITY_HEAD,
    MinorRevision: uint(19, 16, "minor revision", RO),
    MajorRevision: uint(23, 20, "major revision", RO),
    Reserved3: reserved(31, 24),
    BARLocation: uint(35, 32, "BAR of the index-data pair; 15: in configuration space", RO),
    BAROffset: uint(55, 36, "in units of 4 bytes", RO),
    Reserved7: reserved(63, 56),
  },
);

export const ADVANCED_FEATURES_CAPABILITY = layout(
  { name: "Advanced Features Capability", bits: 48, spec: "Conventional PCI AF ECN" },
  {
    ...CAPABILITY_HEAD,
    Length: uint(23, 16, "6", RO),
    TP_CAP: bit(24, "Transactions Pending works", RO),
    FLR_CAP: bit(25, "Initiate FLR works", RO),
    CapabilitiesReserved: reserved(31, 26),
    INITIATE_FLR: bit(32, "write 1: reset the function", { access: "wo" }),
    ControlReserved: reserved(39, 33),
    TP: bit(40, "transactions are pending", RO),
    StatusReserved: reserved(47, 41),
  },
);

export const ENHANCED_ALLOCATION_CAPABILITY = layout(
  { name: "Enhanced Allocation Capability", bits: 32, spec: "PCIe 7.8.5" },
  {
    ...CAPABILITY_HEAD,
    NumEntries: uint(21, 16, "entries that follow", RO),
    Reserved: reserved(31, 22),
  },
);

export const ENHANCED_ALLOCATION_ENTRY = layout(
  { name: "Enhanced Allocation Entry", bits: 32, spec: "PCIe 7.8.5.3" },
  {
    EntrySize: uint(2, 0, "dwords that follow", RO),
    Reserved: reserved(3),
    BAREquivalentIndicator: uint(7, 4, "BAR that it stands for", RO),
    PrimaryProperties: oneOf(
      15,
      8,
      { memory: 0, "prefetchable memory": 1, io: 2, "VF prefetchable memory": 3, "VF memory": 4 },
      "kind of resource",
      RO,
    ),
    SecondaryProperties: uint(23, 16, "kind for software that does not know the first", RO),
    Reserved3: reserved(29, 24),
    Writable: bit(30, "base and size can be changed", RO),
    Enable: bit(31, "the resource decodes"),
  },
);
