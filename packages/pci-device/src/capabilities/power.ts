/** Extended capabilities about power and latency. Nothing here draws power: they stand in images of real devices. */
import { bit, EXTENDED_CAPABILITY_HEAD, layout, RO, reserved, uint } from "@iommukit/core";

export const POWER_BUDGETING_CAPABILITY = layout(
  { name: "Power Budgeting Extended Capability", bits: 128, spec: "PCIe 7.8.1" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    DataSelect: uint(39, 32, "which operating condition Data shows"),
    Reserved5: reserved(63, 40),
    BasePower: uint(71, 64, "watts, scaled", RO),
    DataScale: uint(73, 72, "10^-n", RO),
    PMSubState: uint(76, 74, "PM sub state", RO),
    PMState: uint(78, 77, "PM state", RO),
    Type: uint(81, 79, "type", RO),
    PowerRail: uint(84, 82, "power rail", RO),
    Reserved: reserved(95, 85),
    SystemAllocated: bit(96, "already in the system's budget", RO),
    ExtendedPowerBudgetingSupported: bit(97, "extended power budgeting supported", RO),
    ReservedD: reserved(127, 98),
  },
);

export const LTR_CAPABILITY = layout(
  { name: "Latency Tolerance Reporting Extended Capability", bits: 64, spec: "PCIe 7.8.2" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    MaxSnoopLatencyValue: uint(41, 32, "max snoop latency value"),
    MaxSnoopLatencyScale: uint(44, 42, "32^n ns"),
    Reserved: reserved(47, 45),
    MaxNoSnoopLatencyValue: uint(57, 48, "max no snoop latency value"),
    MaxNoSnoopLatencyScale: uint(60, 58, "32^n ns"),
    Reserved7: reserved(63, 61),
  },
);

export const L1_PM_SUBSTATES_CAPABILITY = layout(
  { name: "L1 PM Substates Extended Capability", bits: 128, spec: "PCIe 7.8.3" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    PCIPML12Supported: bit(32, "PCIPML12 supported", RO),
    PCIPML11Supported: bit(33, "PCIPML11 supported", RO),
    ASPML12Supported: bit(34, "ASPML12 supported", RO),
    ASPML11Supported: bit(35, "ASPML11 supported", RO),
    L1PMSubstatesSupported: bit(36, "L1 PM substates supported", RO),
    LinkActivationSupported: bit(37, "link activation supported", RO),
    Reserved: reserved(39, 38),
    PortCommonModeRestoreTime: uint(47, 40, "µs", RO),
    PortTPowerOnScale: uint(49, 48, "port t power on scale", RO),
    Reserved6: reserved(50),
    PortTPowerOnValue: uint(55, 51, "port t power on value", RO),
    Reserved7: reserved(63, 56),
    PCIPML12Enable: bit(64, "PCIPML12 enable"),
    PCIPML11Enable: bit(65, "PCIPML11 enable"),
    ASPML12Enable: bit(66, "ASPML12 enable"),
    ASPML11Enable: bit(67, "ASPML11 enable"),
    LinkActivationInterruptEnable: bit(68, "link activation interrupt enable"),
    LinkActivationControl: bit(69, "link activation control"),
    Reserved8: reserved(71, 70),
    CommonModeRestoreTime: uint(79, 72, "µs"),
    LTRL12ThresholdValue: uint(89, 80, "LTRL12 threshold value"),
    ReservedB: reserved(92, 90),
    LTRL12ThresholdScale: uint(95, 93, "32^n ns"),
    TPowerOnScale: uint(97, 96, "t power on scale"),
    ReservedC: reserved(98),
    TPowerOnValue: uint(103, 99, "t power on value"),
    ReservedD: reserved(127, 104),
  },
);
