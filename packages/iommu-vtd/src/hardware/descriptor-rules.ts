/** Which descriptors a unit accepts (VT-d 6.5.2.11, table 26; 11.4.9.9). */
import type { AnyLayout } from "@iommukit/core";
import {
  CONTEXT_CACHE_INVALIDATE as CC,
  DESCRIPTORS,
  DescriptorType,
  INTERRUPT_ENTRY_CACHE_INVALIDATE as IEC,
  IOTLB_INVALIDATE as IOTLB,
  PASID_CACHE_INVALIDATE as PC,
  PASID_IOTLB_INVALIDATE as PIOTLB,
} from "../spec/invalidation.js";
import type { Capabilities } from "./capabilities.js";
import { reservedMask, violates } from "./reserved.js";

/** IQER.IQEI */
export const QueueError = {
  NONE: 0,
  TAIL_RANGE: 1,
  FETCH: 2,
  TYPE: 3,
  RESERVED: 4,
  WIDTH: 5,
  TAIL_ALIGNMENT: 6,
  TTM: 7,
} as const;

/** Words of the longest descriptor, and of what all of them have. */
export const WIDE_WORDS = 8;
const NARROW_WORDS = 4;

/** The layout of a descriptor type; undefined when there is none. */
export function descriptorTable(type: number): AnyLayout | undefined {
  return (DESCRIPTORS as Readonly<Record<number, AnyLayout>>)[type];
}

export class DescriptorRules {
  readonly #reserved = new Map<number, Int32Array>();

  constructor(private readonly caps: Capabilities) {
    const throttling = caps.ecap.DIT ? [] : ["PFSID_LO", "PFSID_HI"];
    const missing: Readonly<Record<number, readonly string[]>> = {
      [DescriptorType.DEVICE_TLB]: throttling,
      [DescriptorType.PASID_DEVICE_TLB]: throttling,
      [DescriptorType.WAIT]: caps.ecap.PDS ? [] : ["PD"],
    };
    for (const type of Object.values(DescriptorType)) {
      this.#reserved.set(type, reservedMask(DESCRIPTORS[type], { haw: 64, missing: missing[type] }));
    }
  }

  /** QueueError of a descriptor in WIDE_WORDS words, zero-filled when it is a narrow one. */
  check(type: number, d: Int32Array, legacy: boolean): number {
    const reserved = this.#reserved.get(type);
    if (reserved === undefined || !this.#typeExists(type, legacy)) return QueueError.TYPE;
    for (let i = NARROW_WORDS; i < WIDE_WORDS; i++) if (d[i] !== 0) return QueueError.RESERVED;
    if (violates(d, 0, reserved)) return QueueError.RESERVED;
    return this.#granularityExists(type, d) ? QueueError.NONE : QueueError.RESERVED;
  }

  #typeExists(type: number, legacy: boolean): boolean {
    const { ecap } = this.caps;
    if (type === DescriptorType.DEVICE_TLB) return ecap.DT;
    if (type === DescriptorType.INTERRUPT_ENTRY) return ecap.IR;
    if (type <= DescriptorType.WAIT) return true;
    if (legacy) return false;
    if (type === DescriptorType.PASID_DEVICE_TLB) return ecap.DT;
    return type !== DescriptorType.PAGE_GROUP_RESPONSE || ecap.PRS;
  }

  #granularityExists(type: number, d: Int32Array): boolean {
    const { cap, ecap } = this.caps;
    switch (type) {
      case DescriptorType.CONTEXT:
        return CC.G.get(d) !== 0;
      case DescriptorType.IOTLB:
        return IOTLB.G.get(d) === 3 ? cap.PSI && IOTLB.AM.get(d) <= cap.MAMV : IOTLB.G.get(d) !== 0;
      case DescriptorType.PASID_IOTLB:
        return PIOTLB.G.get(d) >= 2;
      case DescriptorType.PASID_CACHE:
        return PC.G.get(d) !== 2;
      case DescriptorType.INTERRUPT_ENTRY:
        return IEC.G.get(d) === 0 || IEC.IM.get(d) <= ecap.MHMV;
      default:
        return true;
    }
  }
}
