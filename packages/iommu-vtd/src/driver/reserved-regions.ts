/**
 * IOVAs of a device that are not for mappings: the interrupt window, and memory that the firmware says the device uses
 * (RMRR of the DMAR table), which is mapped one to one in the domain that its kernel driver has.
 */
import { DOORBELL_BASE, DOORBELL_SIZE, IommuProt, type ReservedRegion } from "@iommukit/core";

/** One RMRR structure: which function, which memory. */
export interface ReservedMemory {
  readonly rid: number;
  readonly start: bigint;
  /** Last byte, as in the DMAR table. */
  readonly end: bigint;
  /** The mapping may be given up when another driver takes the device over. */
  readonly relaxable?: boolean;
}

/** The low 16 MiB that an ISA bridge's devices may use without telling (CONFIG_INTEL_IOMMU_FLOPPY_WA). */
export function isaWindow(rid: number): ReservedMemory {
  return { rid, start: 0n, end: 0xff_ffffn, relaxable: true };
}

/** Requests to it are interrupts, whatever the tables say (H11). */
const INTERRUPT_WINDOW: ReservedRegion = {
  start: BigInt(DOORBELL_BASE),
  length: BigInt(DOORBELL_SIZE),
  type: "msi",
  prot: 0,
};

/** @param memory RMRRs of all devices; those of `rid` count */
export function reservedRegions(rid: number, memory: readonly ReservedMemory[]): ReservedRegion[] {
  const direct = memory
    .filter((region) => region.rid === rid)
    .map(
      ({ start, end, relaxable }): ReservedRegion => ({
        start,
        length: end - start + 1n,
        type: relaxable ? "direct-relaxable" : "direct",
        prot: IommuProt.READ | IommuProt.WRITE,
      }),
    );
  return [...direct, INTERRUPT_WINDOW];
}
