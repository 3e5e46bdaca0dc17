/** One STE as the chip caches it: int32 fields only, and whether it is ILLEGAL. IHI 0070 5.2, validity 5.2.2. */
import { STE_CONFIG, STE_EATS, STE_S1DSS, STE_S1FMT, STE as TABLE } from "../spec/stream-table.js";
import { exceeds } from "./address-bits.js";
import { ADDRESS_BITS, type Features, STALL_MODEL } from "./features.js";
import { levelShift, WalkConfig } from "./walk-config.js";

// A constant of this module folds into the code below, fields and all; an imported one is loaded each time.
const STE = TABLE;

/** Translation regime of stage 1, which tags TLB entries (3.17). */
export const WORLD = { NS_EL1: 0, EL2: 1, EL2_E2H: 2 } as const;

/** log2 of the granule by STE.S2TG and CD.TG0; 0 is reserved. */
export const GRANULE_TG0: readonly number[] = [12, 16, 14, 0];

export class StreamConfig {
  sid = 0;
  valid = false;
  config: number = STE_CONFIG.abort;
  s1 = false;
  s2 = false;
  /** STE_S1FMT; linear when substreams are off. */
  s1Fmt: number = STE_S1FMT.linear;
  contextHi = 0;
  contextLo = 0;
  /** 0: no substreams. */
  s1CdMax = 0;
  s1dss: number = STE_S1DSS.terminate;
  ppar = false;
  mev = false;
  s1Stalld = false;
  /** As programmed; what it means depends on CR0.ATSCHK. */
  eats: number = STE_EATS.abort;
  world: number = WORLD.NS_EL1;
  /** 0 incoming, 2 unprivileged, 3 privileged. */
  privcfg = 0;
  /** 0 incoming, 2 data, 3 instruction. */
  instcfg = 0;
  vmid = 0;
  readonly stage2 = new WalkConfig();
  s2Affd = false;
  s2Ha = false;
  s2Hd = false;
  s2S = false;
  s2R = false;
  s2Ptw = false;
  s2Fwb = false;

  /** Reads the entry in place. `e2h` is CR2.E2H. */
  decode(w: Int32Array, at: number, f: Features, e2h: boolean): void {
    this.config = STE.Config.get(w, at);
    const translates = (this.config & 4) !== 0;
    this.s1 = translates && (this.config & 1) !== 0;
    this.s2 = translates && (this.config & 2) !== 0;
    this.s1CdMax = this.s1 && f.ssidSize > 0 ? STE.S1CDMax.get(w, at) : 0;
    const fmt = this.s1CdMax > 0 ? STE.S1Fmt.get(w, at) : STE_S1FMT.linear;
    this.s1Fmt = fmt === 3 ? STE_S1FMT.linear : fmt;
    this.contextHi = STE.S1ContextPtr.hi(w, at);
    this.contextLo = STE.S1ContextPtr.lo(w, at);
    this.s1dss = STE.S1DSS.get(w, at);
    this.ppar = STE.PPAR.get(w, at) === 1;
    this.mev = STE.MEV.get(w, at) === 1;
    this.s1Stalld = STE.S1STALLD.get(w, at) === 1;
    this.eats = f.ats && (this.config & 3) !== 0 ? STE.EATS.get(w, at) : STE_EATS.abort;
    const strw = STE.STRW.get(w, at);
    const strwUsed = f.s1p && f.hyp && this.config === STE_CONFIG.s1;
    this.world = strwUsed && (strw & 2) !== 0 ? (e2h ? WORLD.EL2_E2H : WORLD.EL2) : WORLD.NS_EL1;
    const overrides = f.attrPermsOvr && translates;
    this.privcfg = overrides ? STE.PRIVCFG.get(w, at) : 0;
    this.instcfg = overrides ? STE.INSTCFG.get(w, at) : 0;
    const vmidUsed = f.s2p && this.config !== STE_CONFIG.bypass && this.world === WORLD.NS_EL1;
    this.vmid = vmidUsed ? STE.S2VMID.get(w, at) : 0;
    this.#decodeStage2(w, at, f);
    this.valid = STE.V.get(w, at) === 1 && (!translates || !this.#illegal(w, at, f, strwUsed, vmidUsed));
  }

  #decodeStage2(w: Int32Array, at: number, f: Features): void {
    this.s2Affd = STE.S2AFFD.get(w, at) === 1;
    this.s2Ha = STE.S2HA.get(w, at) === 1;
    this.s2Hd = this.s2Ha && STE.S2HD.get(w, at) === 1;
    this.s2S = STE.S2S.get(w, at) === 1;
    this.s2R = STE.S2R.get(w, at) === 1;
    this.s2Ptw = this.s1 && STE.S2PTW.get(w, at) === 1;
    this.s2Fwb = f.fwb && STE.S2FWB.get(w, at) === 1;
    if (!this.s2) return;
    this.stage2.bigEndian = STE.S2ENDI.get(w, at) === 1;
    const granule = GRANULE_TG0[STE.S2TG.get(w, at)];
    const outputBits = Math.min(ADDRESS_BITS[STE.S2PS.get(w, at)], f.oasBits);
    const start = startLevelOfSl0(granule, STE.S2SL0.get(w, at));
    if (granule === 0 || start < 0) return;
    const bits = 64 - STE.S2T0SZ.get(w, at);
    this.stage2.set(bits, granule, start, STE.S2TTB.hi(w, at), STE.S2TTB.lo(w, at), outputBits, f.oasBits);
  }

  /** The conditions of 5.2.2 for a Non-secure STE that translates or bypasses. */
  #illegal(w: Int32Array, at: number, f: Features, strwUsed: boolean, vmidUsed: boolean): boolean {
    if (this.s1 && !f.s1p) return true;
    if (this.s2 && !f.s2p) return true;
    if (this.eats === STE_EATS.s1check) {
      if (this.config !== STE_CONFIG.nested || this.s2S || !f.splitStageAts) return true;
    }
    if (this.eats === STE_EATS.full && this.s2 && this.s2S) return true;
    if (strwUsed && (STE.STRW.get(w, at) & 1) !== 0) return true;
    if (this.s1 && this.#stage1Illegal(f)) return true;
    if (this.s2 && this.#stage2Illegal(w, at, f)) return true;
    return vmidUsed && !f.vmid16 && this.vmid > 0xff;
  }

  #stage1Illegal(f: Features): boolean {
    if (this.s1Stalld && f.stallModel !== STALL_MODEL.both) return true;
    if (this.s1CdMax > f.ssidSize) return true;
    if (this.s1Fmt !== STE_S1FMT.linear && !f.cd2l) return true;
    // An IPA beyond the IAS may instead be left to stage 2 (3.4.3); this chip refuses it like a PA.
    return exceeds(this.contextHi, this.contextLo, f.oasBits);
  }

  #stage2Illegal(w: Int32Array, at: number, f: Features): boolean {
    if (this.s2S ? f.stallModel === STALL_MODEL.terminate : f.stallModel === STALL_MODEL.force) return true;
    if (STE.S2AA64.get(w, at) === 0 || !f.aarch64) return true;
    const hd = STE.S2HD.get(w, at) === 1;
    if ((this.s2Ha || hd) && f.httu === 0) return true;
    if (hd && f.httu === 1) return true;
    const granule = GRANULE_TG0[STE.S2TG.get(w, at)];
    if (!f.granules[granule]) return true;
    const outputBits = Math.min(ADDRESS_BITS[STE.S2PS.get(w, at)], f.oasBits);
    const ttbBits = granule === 16 ? outputBits : Math.min(outputBits, 48);
    if (exceeds(STE.S2TTB.hi(w, at), STE.S2TTB.lo(w, at), ttbBits)) return true;
    const t0sz = STE.S2T0SZ.get(w, at);
    const max = f.stt ? (granule === 16 ? 47 : 48) : 39;
    const min = Math.max(granule === 16 ? 12 : 16, 64 - f.oasBits);
    if (t0sz < min || t0sz > max) return true;
    if (startInconsistent(granule, STE.S2SL0.get(w, at), 64 - t0sz, f)) return true;
    const bigEndian = STE.S2ENDI.get(w, at) === 1;
    return bigEndian ? f.littleEndianOnly : f.bigEndianOnly;
  }
}

/** Start level by VTCR_EL2.SL0; -1 for encodings that no granule of this chip has. */
function startLevelOfSl0(granule: number, sl0: number): number {
  if (granule === 12) return sl0 === 3 ? 3 : 2 - sl0;
  return 3 - sl0;
}

/** S2SL0 does not fit S2TG and S2T0SZ (Arm ARM D8.2.7): up to 16 tables may be concatenated at the start. */
function startInconsistent(granule: number, sl0: number, bits: number, f: Features): boolean {
  const start = startLevelOfSl0(granule, sl0);
  if (granule === 12 && (sl0 === 3 ? !f.stt : start === 0 && f.oasBits < 44)) return true;
  if (granule === 14 && (start === 0 || (start === 1 && f.oasBits < 42))) return true;
  if (granule === 16 && (start === 0 || (start === 1 && f.oasBits < 44))) return true;
  const index = bits - levelShift(granule, start);
  return index < 1 || index > granule - 3 + 4;
}
