/** What the context cache and the PASID cache hold: the fields of an entry that later steps need, or the fault that reading it gave. */

import { Pgtt } from "../spec/pasid-table.js";

/** How and through which tables requests are translated: from a legacy context entry or a PASID table entry. */
export class TranslationEntry {
  /** Fault reason code; 0 when the entry can be used. */
  fault = 0;
  /** FPD of the PASID table entry or of the directory entry above it. */
  faultsDisabled = false;
  did = 0;
  pgtt = 0;
  /** Second stage: table, levels, and whether accessed and dirty bits are kept. */
  ssHi = 0;
  ssLo = 0;
  ssLevels = 0;
  ssade = false;
  /** First stage. */
  fsHi = 0;
  fsLo = 0;
  fsLevels = 0;
  sre = false;
  ere = false;
  wpe = false;
  nxe = false;
  smep = false;
  eafe = false;
  /** Walks are snooped: accessed and dirty bits can be written back. */
  coherent = false;
  /** Accesses are snooped whatever the request says. */
  pgsnp = false;

  get hasFirstStage(): boolean {
    return this.pgtt === Pgtt.FIRST_STAGE || this.pgtt === Pgtt.NESTED;
  }

  clear(): void {
    this.fault = 0;
    this.faultsDisabled = false;
    this.did = 0;
    this.pgtt = 0;
    this.ssHi = 0;
    this.ssLo = 0;
    this.ssLevels = 0;
    this.ssade = false;
    this.fsHi = 0;
    this.fsLo = 0;
    this.fsLevels = 0;
    this.sre = false;
    this.ere = false;
    this.wpe = false;
    this.nxe = false;
    this.smep = false;
    this.eafe = false;
    this.coherent = false;
    this.pgsnp = false;
  }
}

export class ContextRecord {
  /** Fault reason code; 0 when the entry can be used. */
  fault = 0;
  faultsDisabled = false;
  /** Legacy mode: tag for invalidation; 0 for an entry that faults (6.2.2). */
  did = 0;
  /** Translation and translated requests are allowed: DTE, or TT = 01b. */
  deviceTlb = false;
  paside = false;
  pre = false;
  directoryHi = 0;
  directoryLo = 0;
  /** Entries of the PASID directory. */
  directoryEntries = 0;
  ridPasid = 0;
  ridPriv = false;
  /** Legacy mode: the translation itself. */
  readonly translation = new TranslationEntry();

  clear(): void {
    this.fault = 0;
    this.faultsDisabled = false;
    this.did = 0;
    this.deviceTlb = false;
    this.paside = false;
    this.pre = false;
    this.directoryHi = 0;
    this.directoryLo = 0;
    this.directoryEntries = 0;
    this.ridPasid = 0;
    this.ridPriv = false;
    this.translation.clear();
  }
}
