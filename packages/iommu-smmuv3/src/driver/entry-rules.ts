/** Which bits of an STE and of a CD hardware looks at in each configuration (IHI 0070 5.2, 5.4, and the IGNORED rules of 3.21). */
import type { Field } from "@iommukit/core";
import { CD } from "../spec/context-descriptor.js";
import { STE, STE_CONFIG, STE_EATS, STE_S1DSS } from "../spec/stream-table.js";
import { ENTRY_WORDS, type EntryRules } from "./entry-writer.js";

function mask(...fields: readonly Field[]): Int32Array {
  const words = new Int32Array(ENTRY_WORDS);
  for (const field of fields) field.setPair(words, 0, -1, -1);
  return words;
}

/** Bits 0 and 1 of STE.Config say which stages translate. */
const STAGE_1 = 0b001;
const STAGE_2 = 0b010;

const STE_ALWAYS = mask(STE.V);
const STE_VALID = mask(STE.V, STE.Config);
const STE_STAGE_1 = mask(
  STE.S1Fmt,
  STE.S1ContextPtr,
  STE.S1CDMax,
  STE.S1DSS,
  STE.S1CIR,
  STE.S1COR,
  STE.S1CSH,
  STE.MEV,
  STE.S1STALLD,
  STE.EATS,
  STE.STRW,
  STE.S2VMID,
);
const STE_STAGE_2 = mask(
  STE.MEV,
  STE.S2FWB,
  STE.EATS,
  STE.SHCFG,
  STE.S2VMID,
  STE.S2T0SZ,
  STE.S2SL0,
  STE.S2IR0,
  STE.S2OR0,
  STE.S2SH0,
  STE.S2TG,
  STE.S2PS,
  STE.S2AA64,
  STE.S2ENDI,
  STE.S2PTW,
  STE.S2S,
  STE.S2R,
  STE.S2TTB,
);
const STE_BYPASS = mask(STE.SHCFG);

function union(into: Int32Array, more: Int32Array): void {
  for (let word = 0; word < ENTRY_WORDS; word++) into[word] |= more[word];
}

/** arm_smmu_get_ste_used. */
export const STE_RULES: EntryRules = {
  usedBits(ste) {
    if (STE.V.get(ste) === 0) return STE_ALWAYS.slice();
    const used = STE_VALID.slice();
    const config = STE.Config.get(ste);
    if (config & STAGE_1) union(used, STE_STAGE_1);
    if (config & STAGE_2) union(used, STE_STAGE_2);
    // Transactions that stage 1 passes through leave with the attributes of a bypass (13.5).
    const passes = (config & STAGE_1) !== 0 && STE.S1DSS.get(ste) === STE_S1DSS.bypass;
    if (config === STE_CONFIG.bypass || passes) union(used, STE_BYPASS);
    return used;
  },

  /**
   * MEV only changes how many records there are. EATS may change at any time between "abort" and "full", because the device's
   * ATS is disabled meanwhile; but never beside S2S, with which "full" is ILLEGAL, nor from or to the split-stage kind.
   */
  updateSafeBits(from, to) {
    const safe = mask(STE.MEV);
    const ats = STE.EATS.get(from) | STE.EATS.get(to);
    const stalls = STE.S2S.get(from) | STE.S2S.get(to);
    if ((ats & STE_EATS.s1check) === 0 && stalls === 0) STE.EATS.set(safe, 0, STE_EATS.full);
    return safe;
  },
};

const CD_ALWAYS = mask(CD.V);
/** Ignored while EPD0 disables the walk. */
const CD_TTB0_WALK = mask(CD.T0SZ, CD.TG0, CD.IR0, CD.OR0, CD.SH0, CD.TTB0);

/** arm_smmu_get_cd_used. */
export const CD_RULES: EntryRules = {
  usedBits(cd) {
    if (CD.V.get(cd) === 0) return CD_ALWAYS.slice();
    const used = new Int32Array(ENTRY_WORDS).fill(-1);
    if (CD.EPD0.get(cd) === 1) for (let word = 0; word < ENTRY_WORDS; word++) used[word] &= ~CD_TTB0_WALK[word];
    return used;
  },
};
