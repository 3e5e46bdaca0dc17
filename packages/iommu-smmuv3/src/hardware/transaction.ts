/** One incoming transaction with its attributes after the STE's overrides: one object per chip, reused. */
import { Access } from "@iommukit/core";
import type { StreamConfig } from "./stream-config.js";
import { PERM } from "./tlb-entry.js";

export class Transaction {
  sid = 0;
  /** -1 without a SubstreamID. */
  ssid = -1;
  hi = 0;
  lo = 0;
  write = false;
  exec = false;
  incomingPriv = false;
  /** After overrides. */
  priv = false;
  ind = false;
  /** 1 for a read. An access that reads and writes counts as a write. */
  rnw = 1;
  /** PERM bits that must be there. */
  need = 0;

  set(sid: number, ssid: number, hi: number, lo: number, access: number): void {
    this.sid = sid;
    this.ssid = ssid;
    this.hi = hi;
    this.lo = lo;
    this.write = (access & Access.WRITE) !== 0;
    this.exec = (access & Access.EXEC) !== 0;
    this.incomingPriv = (access & Access.PRIV) !== 0;
    this.priv = this.incomingPriv;
    // Incoming writes are always data (13.1.2).
    this.ind = this.exec && !this.write;
    this.rnw = this.write ? 0 : 1;
  }

  /** STE.PRIVCFG and STE.INSTCFG (5.2, 13.1.4), then what the access needs. */
  override(stream: StreamConfig, access: number): void {
    if (stream.privcfg >= 2) this.priv = stream.privcfg === 3;
    if (stream.instcfg >= 2 && !this.write) this.ind = stream.instcfg === 3;
    let need = 0;
    if (this.write) need = (access & Access.READ) !== 0 ? PERM.UW | PERM.UR : PERM.UW;
    else need = this.ind ? PERM.UX : PERM.UR;
    this.need = this.priv ? need << 3 : need;
  }
}
