/** One CD as the chip caches it, and whether it is ILLEGAL. IHI 0070 5.4, validity 5.4.2. */
import { CD as TABLE } from "../spec/context-descriptor.js";
import { exceeds } from "./address-bits.js";
import { ADDRESS_BITS, type Features, STALL_MODEL } from "./features.js";
import { GRANULE_TG0, type StreamConfig, WORLD } from "./stream-config.js";
import { startLevelOf, WalkConfig } from "./walk-config.js";

// A constant of this module folds into the code below, fields and all; an imported one is loaded each time.
const CD = TABLE;

/** log2 of the granule by CD.TG1; 0 is reserved. */
const GRANULE_TG1: readonly number[] = [0, 14, 12, 16];

export class ContextConfig {
  valid = false;
  asid = 0;
  aset = 0;
  readonly tt0 = new WalkConfig();
  readonly tt1 = new WalkConfig();
  /** Only privileged accesses exist, and only TTB0 (EL2 without E2H). */
  single = false;
  affd = false;
  wxn = false;
  pan = false;
  ha = false;
  hd = false;
  s = false;
  r = false;
  a = false;

  decode(w: Int32Array, at: number, f: Features, stream: StreamConfig): void {
    this.single = stream.world === WORLD.EL2;
    this.asid = this.single ? 0 : CD.ASID.get(w, at);
    this.aset = CD.ASET.get(w, at);
    this.affd = CD.AFFD.get(w, at) === 1;
    this.wxn = CD.WXN.get(w, at) === 1;
    this.pan = !this.single && CD.PAN.get(w, at) === 1;
    this.ha = CD.HA.get(w, at) === 1;
    this.hd = this.ha && CD.HD.get(w, at) === 1;
    this.s = CD.S.get(w, at) === 1;
    this.r = CD.R.get(w, at) === 1;
    this.a = CD.A.get(w, at) === 1;
    this.valid = CD.V.get(w, at) === 1 && !this.#illegal(w, at, f, stream) && this.#decodeTables(w, at, f);
  }

  #illegal(w: Int32Array, at: number, f: Features, stream: StreamConfig): boolean {
    if (stream.s1Stalld && this.s) return true;
    if (f.termModel && !this.a) return true;
    if (this.s ? f.stallModel === STALL_MODEL.terminate : f.stallModel === STALL_MODEL.force) return true;
    if (CD.AA64.get(w, at) === 0 || !f.aarch64) return true;
    const hd = CD.HD.get(w, at) === 1;
    if ((this.ha || hd) && f.httu === 0) return true;
    if (hd && f.httu === 1) return true;
    if (!this.single && !f.asid16 && this.asid > 0xff) return true;
    const epd0 = !this.single && CD.EPD0.get(w, at) === 1;
    const epd1 = this.single || CD.EPD1.get(w, at) === 1;
    if (epd0 && epd1) return false;
    const bigEndian = CD.ENDI.get(w, at) === 1;
    return bigEndian ? f.littleEndianOnly : f.bigEndianOnly;
  }

  /** Both tables; false when an enabled one is ILLEGAL. Fields of a table that EPDx disables are ignored (5.4.1.1). */
  #decodeTables(w: Int32Array, at: number, f: Features): boolean {
    const outputBits = Math.min(ADDRESS_BITS[CD.IPS.get(w, at)], f.oasBits);
    const tbi = CD.TBI.get(w, at);
    this.tt0.bigEndian = CD.ENDI.get(w, at) === 1;
    this.tt1.bigEndian = this.tt0.bigEndian;
    this.tt0.disabled = !this.single && CD.EPD0.get(w, at) === 1;
    this.tt0.tbi = (tbi & 1) !== 0;
    this.tt0.had = f.had && CD.HAD0.get(w, at) === 1;
    this.tt0.e0pd = f.e0pd && !this.single && CD.E0PD0.get(w, at) === 1;
    this.tt1.disabled = this.single || CD.EPD1.get(w, at) === 1;
    this.tt1.tbi = !this.single && (tbi & 2) !== 0;
    this.tt1.had = f.had && CD.HAD1.get(w, at) === 1;
    this.tt1.e0pd = f.e0pd && !this.single && CD.E0PD1.get(w, at) === 1;
    const ok0 =
      this.tt0.disabled ||
      setTable(
        this.tt0,
        f,
        CD.T0SZ.get(w, at),
        GRANULE_TG0[CD.TG0.get(w, at)],
        CD.TTB0.hi(w, at),
        CD.TTB0.lo(w, at),
        outputBits,
      );
    const ok1 =
      this.tt1.disabled ||
      setTable(
        this.tt1,
        f,
        CD.T1SZ.get(w, at),
        GRANULE_TG1[CD.TG1.get(w, at)],
        CD.TTB1.hi(w, at),
        CD.TTB1.lo(w, at),
        outputBits,
      );
    return ok0 && ok1;
  }
}

/** False when granule, size or base are ILLEGAL. */
function setTable(
  table: WalkConfig,
  f: Features,
  tsz: number,
  granule: number,
  hi: number,
  lo: number,
  outputBits: number,
): boolean {
  if (!f.granules[granule]) return false;
  const max = f.stt ? (granule === 16 ? 47 : 48) : 39;
  const min = f.va52 && granule === 16 ? 12 : 16;
  if (tsz < min || tsz > max) return false;
  if (exceeds(hi, lo, granule === 16 ? outputBits : Math.min(outputBits, 48))) return false;
  table.set(64 - tsz, granule, startLevelOf(granule, 64 - tsz), hi, lo, outputBits, f.oasBits);
  return true;
}
