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
