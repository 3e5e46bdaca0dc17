/** smmu->features, as the kernel prints it when it has probed: one bit per ARM_SMMU_FEAT_* of Linux's driver. */
import type { Smmuv3Features } from "./probe.js";

/** @param sva arm_smmu_sva_supported(): the CPUs' page tables and ASIDs fit */
export function linuxFeatures(f: Smmuv3Features, sva: boolean): number {
  const fromBitZero = [
    f.twoLevelStreamTable,
    f.twoLevelCdTable,
    // Little-endian tables: probing refuses anything else.
    true,
    f.bigEndianTables,
    f.pri,
    f.ats,
    f.sev,
    f.msi,
    f.coherent,
    f.stage1,
    f.stage2,
    f.stalls,
    f.hyp,
    f.stallForce,
    f.wideVirtual,
    f.rangeInvalidation,
    // Broadcast TLB maintenance is not used (CR2.PTM = 1).
    false,
    sva,
    // EL2-E2H would need a kernel that runs at EL2.
    false,
    f.stage1 && f.stage2,
    f.attributeTypesOverride,
    f.httu >= 1,
    f.httu >= 2,
    f.forceWriteBack,
  ];
  return fromBitZero.reduce((features, on, bit) => features + (on ? 2 ** bit : 0), 0);
}
