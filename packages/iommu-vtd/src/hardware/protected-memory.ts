/** Protected memory regions (VT-d 11.4.8): while translation is off, device accesses to them are blocked. 2 MiB granularity. */
import { physical, type RegisterFile } from "@iommukit/core";
import { PHMBASE, PHMLIMIT, PLMBASE, PLMLIMIT, PMEN } from "../spec/registers.js";
import type { Capabilities } from "./capabilities.js";

/** Bits below the base are zero, below the limit one. */
const GRANULE = 0x20_0000;

export class ProtectedMemory {
  constructor(
    private readonly caps: Capabilities,
    private readonly file: RegisterFile,
  ) {
    const { PLMR, PHMR } = caps.cap;
    const locked = () => PMEN.PRS.get(file.words, PMEN.index) === 1;
    for (const register of [PLMBASE, PLMLIMIT]) file.guard(register, () => (PLMR && !locked() ? -1 : 0));
    for (const register of [PHMBASE, PHMLIMIT]) file.guard(register, () => (PHMR && !locked() ? -1 : 0));
    file.guard(PMEN, () => (PLMR || PHMR ? -1 : 0));
    file.onWrite(PMEN, () => PMEN.PRS.setPair(file.words, PMEN.index, 0, PMEN.EPM.get(file.words, PMEN.index)));
  }

  blocks(hi: number, lo: number): boolean {
    const { words } = this.file;
    if (PMEN.PRS.get(words, PMEN.index) === 0) return false;
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
