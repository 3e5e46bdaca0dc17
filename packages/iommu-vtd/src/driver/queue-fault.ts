/** What Linux prints when the invalidation queue reports an error (qi_dump_fault of drivers/iommu/intel/dmar.c). */
import { DescriptorType } from "../spec/invalidation.js";
import { FSTS, IQER } from "../spec/registers.js";
import { type Descriptor, quadWords } from "./descriptors.js";
import type { Unit } from "./unit.js";

const NAMES: Readonly<Record<number, string>> = {
  [DescriptorType.CONTEXT]: "Context-cache Invalidation",
  [DescriptorType.IOTLB]: "IOTLB Invalidation",
  [DescriptorType.DEVICE_TLB]: "Device-TLB Invalidation",
  [DescriptorType.INTERRUPT_ENTRY]: "Interrupt Entry Cache Invalidation",
  [DescriptorType.WAIT]: "Invalidation Wait",
  [DescriptorType.PASID_IOTLB]: "PASID-based IOTLB Invalidation",
  [DescriptorType.PASID_CACHE]: "PASID-cache Invalidation",
  [DescriptorType.PASID_DEVICE_TLB]: "PASID-based Device-TLB Invalidation",
  [DescriptorType.PAGE_GROUP_RESPONSE]: "Page Group Response",
};

function describe(descriptor: Descriptor): string {
  const [qw0, qw1] = quadWords(descriptor);
  return `${NAMES[descriptor[0] & 0xf] ?? "UNKNOWN"} qw0 = 0x${qw0.toString(16)}, qw1 = 0x${qw1.toString(16)}`;
}

/** @param errors FSTS.IQE, ITE and ICE; @param head the descriptor at IQH, @param prior the one before it */
export function printQueueFault(
  { kernel }: Unit,
  errors: number,
  iqer: bigint,
  head: Descriptor,
  prior: Descriptor,
): void {
  const words = Int32Array.of(Number(iqer & 0xffff_ffffn) | 0, Number(iqer >> 32n) | 0);
  const print = (line: string) => kernel.printk(`DMAR: ${line}`);
  if (errors & FSTS.IQE.lowMask)
    print(`VT-d detected Invalidation Queue Error: Reason ${IQER.IQEI.get(words).toString(16)}`);
  if (errors & FSTS.ITE.lowMask)
    print(`VT-d detected Invalidation Time-out Error: SID ${IQER.ITESID.get(words).toString(16)}`);
  if (errors & FSTS.ICE.lowMask)
    print(`VT-d detected Invalidation Completion Error: SID ${IQER.ICESID.get(words).toString(16)}`);
  print(`QI HEAD: ${describe(head)}`);
  print(`QI PRIOR: ${describe(prior)}`);
  if (errors & FSTS.IQE.lowMask) print("Invalidation Queue Error (IQE) cleared");
  if (errors & FSTS.ITE.lowMask) print("Invalidation Time-out Error (ITE) cleared");
  if (errors & FSTS.ICE.lowMask) print("Invalidation Completion Error (ICE) cleared");
}
