/** What the context cache and the PASID cache hold: the words of an entry that later steps need, or the fault that reading it gave. */

import { levelsOf } from "../spec/page-table.js";
import { PASID_DIRECTORY_ENTRY, PASID_ENTRY, Pgtt } from "../spec/pasid-table.js";
import { CONTEXT_ENTRY, SM_CONTEXT_ENTRY } from "../spec/root-context.js";

/** The same bit in every entry that has it. */
export const FPD =
  PASID_ENTRY.FPD.lowMask &
  PASID_DIRECTORY_ENTRY.FPD.lowMask &
  CONTEXT_ENTRY.FPD.lowMask &
  SM_CONTEXT_ENTRY.FPD.lowMask;
const PGTT = PASID_ENTRY.PGTT.lowMask;
const PGTT_SHIFT = PASID_ENTRY.PGTT.shift;
const AW = PASID_ENTRY.AW.lowMask;
const AW_SHIFT = PASID_ENTRY.AW.shift;
const SSADE = PASID_ENTRY.SSADE.lowMask;
const SSEE = PASID_ENTRY.SSEE.lowMask;
/** Both stages. */
const POINTER_LO = PASID_ENTRY.SSPTPTR.lowMask & PASID_ENTRY.FSPTPTR.lowMask;
const DID = PASID_ENTRY.DID.lowMask;
const PWSNP = PASID_ENTRY.PWSNP.lowMask;
const PGSNP = PASID_ENTRY.PGSNP.lowMask;
const SRE = PASID_ENTRY.SRE.lowMask;
const ERE = PASID_ENTRY.ERE.lowMask;
const FSPM = PASID_ENTRY.FSPM.lowMask;
const FSPM_SHIFT = PASID_ENTRY.FSPM.shift;
const WPE = PASID_ENTRY.WPE.lowMask;
const NXE = PASID_ENTRY.NXE.lowMask;
const SMEP = PASID_ENTRY.SMEP.lowMask;
const EAFE = PASID_ENTRY.EAFE.lowMask;
const { FIRST_STAGE, NESTED } = Pgtt;

/**
 * How and through which tables requests are translated: the words of a PASID table entry (9.6), or of the one that says the
 * same as a legacy context entry. The getters are its fields; those of a stage count where PGTT has that stage.
 */
export class TranslationEntry {
  /** Fault reason code; 0 when the entry can be used. */
  fault = 0;
  /** FPD is the PASID table entry's, or that of the directory entry above it. */
  word0 = 0;
  word1 = 0;
  word2 = 0;
  word4 = 0;
  word5 = 0;

  get faultsDisabled(): boolean {
    return (this.word0 & FPD) !== 0;
  }

  get did(): number {
    return this.word2 & DID;
  }

  get pgtt(): number {
    return (this.word0 & PGTT) >>> PGTT_SHIFT;
  }

  /** Second stage: table, levels, and whether accessed and dirty bits are kept. */
  get ssHi(): number {
    return this.word1;
  }

  get ssLo(): number {
    return this.word0 & POINTER_LO;
  }

  get aw(): number {
    return (this.word0 & AW) >>> AW_SHIFT;
  }

  get ssLevels(): number {
    return levelsOf(this.aw);
  }

  get ssade(): boolean {
    return (this.word0 & SSADE) !== 0;
  }

  /** The second stage has execute permissions of its own. */
  get ssee(): boolean {
    return (this.word0 & SSEE) !== 0;
  }

  /** First stage. */
  get fsHi(): number {
    return this.word5;
  }

  get fsLo(): number {
    return this.word4 & POINTER_LO;
  }

  get fspm(): number {
    return (this.word4 & FSPM) >>> FSPM_SHIFT;
  }

  get fsLevels(): number {
    return 4 + this.fspm;
  }

  get sre(): boolean {
    return (this.word4 & SRE) !== 0;
  }

  get ere(): boolean {
    return (this.word4 & ERE) !== 0;
  }

  get wpe(): boolean {
    return (this.word4 & WPE) !== 0;
  }

  get nxe(): boolean {
    return (this.word4 & NXE) !== 0;
  }

  get smep(): boolean {
    return (this.word4 & SMEP) !== 0;
  }

  get eafe(): boolean {
    return (this.word4 & EAFE) !== 0;
  }

  /** Walks are snooped: accessed and dirty bits can be written back. */
  get coherent(): boolean {
    return (this.word2 & PWSNP) !== 0;
  }

  /** Accesses are snooped whatever the request says. */
  get pgsnp(): boolean {
    return (this.word2 & PGSNP) !== 0;
  }

  get hasFirstStage(): boolean {
    const { pgtt } = this;
    return pgtt === FIRST_STAGE || pgtt === NESTED;
  }

  /** A PASID table entry, read. @param fpd FPD of the directory entry */
  take(words: Int32Array, at: number, fpd: number): void {
    this.word0 = words[at] | fpd;
    this.word1 = words[at + 1];
    this.word2 = words[at + 2];
    this.word4 = words[at + 4];
    this.word5 = words[at + 5];
  }

  /** A legacy context entry says that much; its walks are snooped. */
  legacy(pgtt: number, did: number, aw: number, ssHi: number, ssLo: number): void {
    this.word0 = (pgtt << PGTT_SHIFT) | (aw << AW_SHIFT) | ssLo;
    this.word1 = ssHi;
    this.word2 = did | PWSNP;
    this.word4 = 0;
    this.word5 = 0;
  }

  /** An entry that cannot be used: it belongs to domain 0 (6.2.3). Of its words FPD is kept. */
  refuse(fault: number): void {
    const fpd = this.word0 & FPD;
    this.legacy(0, 0, 0, 0, 0);
    this.word0 = fpd;
    this.fault = fault;
  }
}

const DTE = SM_CONTEXT_ENTRY.DTE.lowMask;
const PASIDE = SM_CONTEXT_ENTRY.PASIDE.lowMask;
const PRE = SM_CONTEXT_ENTRY.PRE.lowMask;
const PDTS = SM_CONTEXT_ENTRY.PDTS.lowMask;
const PDTS_SHIFT = SM_CONTEXT_ENTRY.PDTS.shift;
const DIRECTORY_LO = SM_CONTEXT_ENTRY.PASIDDIRPTR.lowMask;
const RID_PASID = SM_CONTEXT_ENTRY.RID_PASID.lowMask;
const RID_PRIV = SM_CONTEXT_ENTRY.RID_PRIV.lowMask;

/** The words of a scalable-mode context entry (9.4); of a legacy one its translation, and DTE for TT = 01b. */
export class ContextRecord {
  /** Fault reason code; 0 when the entry can be used. */
  fault = 0;
  word0 = 0;
  word1 = 0;
  word2 = 0;
  /** Legacy mode: the translation itself, whose domain-id is a tag for invalidation. */
  readonly translation = new TranslationEntry();

  get faultsDisabled(): boolean {
    return (this.word0 & FPD) !== 0;
  }

  /** Legacy mode: tag for invalidation; 0 for an entry that faults (6.2.2). */
  get did(): number {
    return this.translation.did;
  }

  /** Translation and translated requests are allowed: DTE, or TT = 01b. */
  get deviceTlb(): boolean {
    return (this.word0 & DTE) !== 0;
  }

  get paside(): boolean {
    return (this.word0 & PASIDE) !== 0;
  }

  get pre(): boolean {
    return (this.word0 & PRE) !== 0;
  }

  get directoryHi(): number {
    return this.word1;
  }

  get directoryLo(): number {
    return this.word0 & DIRECTORY_LO;
  }

  /** Entries of the PASID directory. */
  get directoryEntries(): number {
    return 1 << (((this.word0 & PDTS) >>> PDTS_SHIFT) + 7);
  }

  get ridPasid(): number {
    return this.word2 & RID_PASID;
  }

  get ridPriv(): boolean {
    return (this.word2 & RID_PRIV) !== 0;
  }

  /** A scalable-mode context entry, read. */
  take(words: Int32Array, at: number): void {
    this.word0 = words[at];
    this.word1 = words[at + 1];
    this.word2 = words[at + 2];
  }

  /** @param fpd FPD, a bit at the same place as here */
  legacy(deviceTlb: boolean, fpd: number): void {
    this.word0 = (deviceTlb ? DTE : 0) | fpd;
    this.word1 = 0;
    this.word2 = 0;
  }

  /** An entry that cannot be used. Of its words FPD is kept. */
  refuse(fault: number): void {
    this.legacy(false, this.word0 & FPD);
    this.translation.refuse(0);
    this.fault = fault;
  }
}
