/** Single Root I/O Virtualization extended capability: PCIe 6.0 9.3.3. */
import { bit, type FieldSpec, reserved, uint } from "../../bits/field.js";
import { layout } from "../../bits/layout.js";
import { EXTENDED_CAPABILITY_HEAD, RO, RW1C } from "./heads.js";

function vfBar(index: number): FieldSpec<number> {
  return uint(
    319 + index * 32,
    288 + index * 32,
    `base address register ${index} of all VFs: VF n is at base + n × size`,
  );
}

const MIGRATION = { needs: { VFMigrationCapable: true } } as const;

export const SRIOV_CAPABILITY = layout(
  { name: "SR-IOV Extended Capability", bits: 512, spec: "PCIe 9.3.3" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    VFMigrationCapable: bit(32, "deprecated", RO),
    ARICapableHierarchyPreserved: bit(33, "keeps ARI Capable Hierarchy over resets", RO),
    VF10BitTagRequesterSupported: bit(34, "VFs may use 10-bit tags", RO),
    VF14BitTagRequesterSupported: bit(35, "VFs may use 14-bit tags", RO),
    CapabilityReserved: reserved(52, 36),
    VFMigrationInterruptMessageNumber: uint(63, 53, "deprecated", RO),
    VFEnable: bit(64, "the VFs exist"),
    VFMigrationEnable: bit(65, "deprecated", MIGRATION),
    VFMigrationInterruptEnable: bit(66, "deprecated", MIGRATION),
    VFMSE: bit(67, "memory space of all VFs"),
    ARICapableHierarchy: bit(68, "function numbers may be 8 bits wide"),
    VF10BitTagRequesterEnable: bit(69, "VFs use 10-bit tags", { needs: { VF10BitTagRequesterSupported: true } }),
    VF14BitTagRequesterEnable: bit(70, "VFs use 14-bit tags", { needs: { VF14BitTagRequesterSupported: true } }),
    ControlReserved: reserved(79, 71),
    VFMigrationStatus: bit(80, "deprecated", RW1C),
    StatusReserved: reserved(95, 81),
    InitialVFs: uint(111, 96, "VFs at first", RO),
    TotalVFs: uint(127, 112, "VFs at most", RO),
    NumVFs: uint(143, 128, "VFs that software wants; written while VF Enable is 0"),
    FunctionDependencyLink: uint(151, 144, "functions that must be assigned together", RO),
    Reserved13: reserved(159, 152),
    FirstVFOffset: uint(175, 160, "routing id of VF 1 minus that of the PF", RO),
    VFStride: uint(191, 176, "distance of VF routing ids", RO),
    Reserved18: reserved(207, 192),
    VFDeviceID: uint(223, 208, "Device ID of the VFs", RO),
    SupportedPageSizes: uint(255, 224, "bit n: 2^(n+12) bytes", RO),
    SystemPageSize: uint(287, 256, "alignment of VF BARs, one bit as in Supported Page Sizes", { reset: 1 }),
    VFBAR0: vfBar(0),
    VFBAR1: vfBar(1),
    VFBAR2: vfBar(2),
    VFBAR3: vfBar(3),
    VFBAR4: vfBar(4),
    VFBAR5: vfBar(5),
    VFMigrationStateBIR: uint(482, 480, "deprecated", RO),
    VFMigrationStateOffset: uint(511, 483, "deprecated", RO),
  },
);
