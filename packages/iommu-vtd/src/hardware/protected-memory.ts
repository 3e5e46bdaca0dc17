/**
 * Protected memory regions (VT-d 11.4.8), in steps of 2 MiB. While they are enabled, no device reaches them: not with
 * translation off, not by pass-through, not with translated requests, and here not through tables either, which the
 * architecture leaves open. Nothing is recorded.
 */
import { physical, type RegisterFile } from "@iommukit/core";
import { PHMBASE, PHMLIMIT, PLMBASE, PLMLIMIT, PMEN } from "../spec/registers.js";
import type { Capabilities } from "./capabilities.js";

/** Bits below the base are zero, below the limit one. */
const GRANULE = 0x20_0000;

export class ProtectedMemory {
  /** PMEN.PRS */
  active = false;

  constructor(
    private readonly caps: Capabilities,
    private readonly file: RegisterFile,
    modeChanged: () => void,
  ) {
    const { PLMR, PHMR } = caps.cap;
    for (const register of [PLMBASE, PLMLIMIT]) file.guard(register, () => (PLMR && !this.active ? -1 : 0));
    for (const register of [PHMBASE, PHMLIMIT]) file.guard(register, () => (PHMR && !this.active ? -1 : 0));
    file.guard(PMEN, () => (PLMR || PHMR ? -1 : 0));
    file.onWrite(PMEN, () => {
      const enabled = PMEN.EPM.get(file.words, PMEN.index);
      PMEN.PRS.setPair(file.words, PMEN.index, 0, enabled);
      this.active = enabled === 1;
      modeChanged();
    });
  }

  reset(): void {
    this.active = false;
  }

  blocks(hi: number, lo: number): boolean {
    if (!this.active) return false;
    const { words } = this.file;
    const at = physical(hi, lo);
    const { PLMR, PHMR } = this.caps.cap;
    const low =
      PLMR && at >= PLMBASE.PLMB.get(words, PLMBASE.index) && at < PLMLIMIT.PLML.get(words, PLMLIMIT.index) + GRANULE;
    return (
      low ||
      (PHMR && at >= PHMBASE.PHMB.get(words, PHMBASE.index) && at < PHMLIMIT.PHML.get(words, PHMLIMIT.index) + GRANULE)
    );
  }
}
