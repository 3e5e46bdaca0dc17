/**
 * STE and CD that a StreamID and SubstreamID lead to, with what the quick path needs of them worked out. The upper tables
 * are those of levels 0 and 1.
 */
import { type PhysicalMemory, type RecentAnswer, UpperTables } from "@iommukit/core";
import { highMaskFrom } from "./address-bits.js";
import type { ContextConfig } from "./context-config.js";
import { ADDRESS_HI, NG, TYPE_TABLE } from "./descriptor-bits.js";
import { type EntryAddress, KeptEntries } from "./kept-entries.js";
import { permsTable } from "./stage1-permissions.js";
import type { StreamConfig } from "./stream-config.js";
import { PERM, TLB_KIND, tlbOrigin, tlbTag, tlbTags } from "./tlb-entry.js";
import type { WalkConfig } from "./walk-config.js";

/** Tables of permissions: bit 0 of the index is ContextConfig.single, bit 1 wxn. */
const PERMS_OF = [0, 1, 2, 3].map((bits) =>
  permsTable({ single: (bits & 1) !== 0, wxn: (bits & 2) !== 0, pan: false }),
);

/** No SubstreamID, nor the lack of one. */
const NO_ONE = -2;
const NOTHING: readonly number[] = [0, 0, 0, 0];

const FORMAT = { mask: TYPE_TABLE, table: TYPE_TABLE, addressHi: ADDRESS_HI };

export class FoundConfig extends UpperTables implements RecentAnswer {
  /** -1: nothing has been found, or it does not count any more. */
  sid = -1;
  given = false;
  ssid = -1;
  /** The CD; null when stage 1 is bypassed. */
  context: ContextConfig | null = null;
  /** `ssid` when accesses below TTB0 may take the quick path, NO_ONE otherwise; the fields below are set only for the former. */
  quickSsid = NO_ONE;
  /** Bits of an address's high word that TTB0's range does not have. */
  beyond = -1;
  /** What TLB entries of this configuration carry. */
  tag = 0;
  tags = 0;
  /** PERM bits that each value of the Access bits needs: no access named, a plain read, write, and both. */
  needs = NOTHING;
  /** Position of the permissions that count: 3 when the stream's accesses are privileged. */
  privilege = 0;
  /** Distance to the permissions that must be there as well: stage 2's, or the same. */
  second = 0;
  /** 1 when the quick walk may be tried; the fields below are set only then. */
  walkable = 0;
  /** `tlbOrigin` of its pages. */
  pageOrigin = 0;
  /** Bits of a descriptor's high word that are of its address and that the table may not have. */
  beyondOutput = 0;
  /** PERM bits of a page: `permsTable`; the last index there, and what it held. */
  permsOf = PERMS_OF[0];
  permsIndex = -1;
  perms = 0;
  /** nG where global entries exist: pages without it are global. */
  globalUnless = 0;
  /** 1 when no cache has the entries: they are then read for each transaction, and must be what they were. */
  uncached = 0;
  readonly kept = new KeptEntries();

  constructor(
    private readonly memory: PhysicalMemory,
    public stream: StreamConfig,
  ) {
    super(FORMAT);
  }

  set(sid: number, ssid: number, stream: StreamConfig, context: ContextConfig | null): void {
    this.sid = sid;
    this.ssid = ssid;
    this.stream = stream;
    this.context = context;
    this.quickSsid = NO_ONE;
    this.walkable = 0;
    this.uncached = 0;
    if (context !== null) this.#prepare(stream, context);
  }

  /** The same for a chip without configuration caches; STE and CD lie at these addresses. */
  setUncached(
    sid: number,
    ssid: number,
    stream: StreamConfig,
    context: ContextConfig,
    ste: EntryAddress,
    cd: EntryAddress,
  ): void {
    this.set(sid, ssid, stream, context);
    this.uncached = 1;
    const kept = this.kept.keep(this.memory, ste, cd);
    // What lies beyond the words that are kept must not count.
    if (!kept || stream.s2 || !context.tt1.disabled) this.quickSsid = NO_ONE;
  }

  #prepare(stream: StreamConfig, context: ContextConfig): void {
    const table = context.tt0;
    if (table.disabled || table.e0pd || context.pan || table.bits < 33) return;
    this.quickSsid = this.ssid;
    this.beyond = highMaskFrom(table.bits);
    this.tag = tlbTag(TLB_KIND.VA, stream.world);
    this.tags = tlbTags(context.asid, stream.vmid);
    this.privilege = stream.privcfg === 3 ? 3 : 0;
    this.second = stream.s2 ? PERM.STAGE2 : 0;
    const read = (stream.instcfg === 3 ? PERM.UX : PERM.UR) << this.privilege;
    const write = PERM.UW << this.privilege;
    const both = (PERM.UW | PERM.UR) << this.privilege;
    this.needs = [read, read, write, both];
    if (!stream.s2 && table.granule === 12 && !table.had && !table.bigEndian) this.#prepareWalk(context, table);
  }

  #prepareWalk(context: ContextConfig, table: WalkConfig): void {
    const window = this.memory.window?.(table.tableHi, table.tableLo) ?? null;
    if (window === null) return;
    this.walkable = 1;
    this.begin(window, table.tableLo, 2 - table.startLevel);
    this.pageOrigin = tlbOrigin(3, table.granule, table.granule, context.aset);
    this.beyondOutput = highMaskFrom(table.outputBits) & ADDRESS_HI;
    this.permsOf = PERMS_OF[(context.single ? 1 : 0) | (context.wxn ? 2 : 0)];
    this.permsIndex = -1;
    this.globalUnless = context.single ? 0 : NG;
  }
}
