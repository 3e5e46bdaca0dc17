/** STE and CD that a StreamID and SubstreamID lead to, with what a TLB hit needs of them worked out. */
import { highMaskFrom } from "./address-bits.js";
import type { ContextConfig } from "./context-config.js";
import type { StreamConfig } from "./stream-config.js";
import { PERM, TLB_KIND, tlbTag, tlbTags } from "./translation-cache.js";
import { levelShift, type WalkConfig } from "./walk-config.js";

export class FoundConfig {
  sid = -1;
  ssid = -1;
  /** State of the configuration caches in which the answer was found. */
  epoch = -1;
  /** The CD; null when stage 1 is bypassed. */
  context: ContextConfig | null = null;
  /** Accesses below TTB0 may take the quick path; the fields below are set only then. */
  quick = false;
  /** Bits of an address's high word that TTB0's range does not have. */
  beyond = -1;
  /** What TLB entries of this configuration carry. */
  tag = 0;
  tags = 0;
  /** PERM bits that a plain read, write, and both need, in bits 15:8, 23:16, 31:24: by the Access bits. */
  needs = 0;
  /** Position of the permissions that count: 3 when the stream's accesses are privileged. */
  privilege = 0;
  /** Distance to the permissions that must be there as well: stage 2's, or the same. */
  second = 0;
  /** The CD when the quick walk may be tried; null otherwise. */
  walkable: ContextConfig | null = null;
  asid = 0;
  aset = 0;
  granule = 12;
  tableHi = 0;
  tableLo = 0;
  /** log2 of the range of an entry of the first table, and the bits of its index and of later ones. */
  startShift = 0;
  startMask = 0;
  indexMask = 0;
  /** Bits of an output address's high word that the table may not have. */
  beyondOutput = 0;

  constructor(public stream: StreamConfig) {}

  set(sid: number, ssid: number, epoch: number, stream: StreamConfig, context: ContextConfig | null): void {
    this.sid = sid;
    this.ssid = ssid;
    this.epoch = epoch;
    this.stream = stream;
    this.context = context;
    this.quick = false;
    this.walkable = null;
    if (context !== null) this.#prepare(stream, context);
  }

  #prepare(stream: StreamConfig, context: ContextConfig): void {
    const table = context.tt0;
    if (table.disabled || table.e0pd || context.pan || table.bits < 33) return;
    this.quick = true;
    this.beyond = highMaskFrom(table.bits);
    this.tag = tlbTag(TLB_KIND.VA, stream.world);
    this.tags = tlbTags(context.asid, stream.vmid);
    this.privilege = stream.privcfg === 3 ? 3 : 0;
    this.second = stream.s2 ? PERM.STAGE2 : 0;
    const read = (stream.instcfg === 3 ? PERM.UX : PERM.UR) << this.privilege;
    const write = PERM.UW << this.privilege;
    const both = (PERM.UW | PERM.UR) << this.privilege;
    this.needs = (read << 8) | (write << 16) | (both << 24);
    if (!stream.s2 && !table.wide && !table.had) this.#prepareWalk(context, table);
  }

  #prepareWalk(context: ContextConfig, table: WalkConfig): void {
    this.walkable = context;
    this.asid = context.asid;
    this.aset = context.aset;
    this.granule = table.granule;
    this.tableHi = table.tableHi;
    this.tableLo = table.tableLo;
    this.startShift = levelShift(table.granule, table.startLevel);
    this.startMask = (1 << (table.bits - this.startShift)) - 1;
    this.indexMask = (1 << (table.granule - 3)) - 1;
    this.beyondOutput = highMaskFrom(table.outputBits);
  }
}
