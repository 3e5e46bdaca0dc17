/** What a function may send with a PASID, from its PASID capability (PCIe 6.20.1, 7.8.9). */
import { Access, NO_PASID } from "@iommukit/core";

/** `this.pasid` of a PciDevice. */
export class PasidState {
  /** PASID Enable. */
  enabled = false;
  /** Execute Permission Enable, Privileged Mode Enable, Translated Requests with PASID Enable. */
  execute = false;
  privileged = false;
  translated = false;

  /** @param limit 2^width: PASIDs are below it; 0 for a function without the capability */
  constructor(readonly limit: number) {}

  /** Whether a well-behaved function may send such a request. */
  permits(pasid: number, access: number): boolean {
    if (pasid === NO_PASID) return (access & (Access.EXEC | Access.PRIV)) === 0;
    if (!this.enabled || pasid < 0 || pasid >= this.limit) return false;
    return ((access & Access.EXEC) === 0 || this.execute) && ((access & Access.PRIV) === 0 || this.privileged);
  }

  /** From the control register's bits. */
  set(control: number): void {
    this.enabled = (control & 1) !== 0;
    this.execute = (control & 2) !== 0;
    this.privileged = (control & 4) !== 0;
    this.translated = (control & 8) !== 0;
  }
}
