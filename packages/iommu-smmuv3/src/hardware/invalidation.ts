/** TLB invalidation by command and by broadcast message: scopes, ranges and level hints. IHI 0070 3.17, 4.4. */
import type { AnyLayout, RegisterFile } from "@iommukit/core";
import { CMD_TLBI_NH_VA as BY_VA, OPCODE } from "../spec/commands.js";
import * as r from "../spec/registers.js";
import type { ChipContext } from "./chip-context.js";
import { WORLD } from "./stream-config.js";
import { TLB_KIND } from "./tlb-entry.js";
import type { TlbScope } from "./tlb-scope.js";
import type { TranslationCache } from "./translation-cache.js";

/** A TLB invalidate instruction that a PE broadcasts; `first` and `last` bound the addresses, both ends in. */
export interface BroadcastInvalidate {
  readonly regime: "el1" | "el2" | "el2-e2h" | "stage2" | "stage1and2";
  readonly vmid?: number;
  readonly asid?: number;
  readonly first?: bigint;
  readonly last?: bigint;
  readonly leaf?: boolean;
}

/** 2^SCALE. */
const POWERS = Array.from({ length: 32 }, (_, scale) => 2 ** scale);

export class Invalidation {
  readonly #scope: TlbScope = {
    kind: -1,
    world: -1,
    asid: -1,
    vmid: -1,
    vmidMask: 0xffff,
    globals: true,
    sharedOnly: false,
    ranged: false,
    firstHi: 0,
    firstLo: 0,
    lastHi: 0,
    lastLo: 0,
    leaf: false,
    granule: 0,
    level: 0,
  };

  constructor(
    private readonly chip: ChipContext,
    private readonly registers: RegisterFile,
    private readonly tlb: TranslationCache,
    private readonly walks: TranslationCache,
  ) {}

  /** Carries out a CMD_TLBI_*. False: the command is illegal here (CERROR_ILL). */
  command(opcode: number, w: Int32Array, layout: AnyLayout): boolean {
    const { features } = this.chip;
    const scope = this.#anything();
    const e2h = (this.registers.words[r.CR2.index] & r.CR2.E2H.lowMask) !== 0;
    const el2 = e2h ? WORLD.EL2_E2H : WORLD.EL2;
    switch (opcode) {
      case OPCODE.TLBI_NH_ALL:
      case OPCODE.TLBI_NH_ASID:
      case OPCODE.TLBI_NH_VA:
      case OPCODE.TLBI_NH_VAA:
        if (!features.s1p) return false;
        scope.kind = TLB_KIND.VA;
        scope.world = WORLD.NS_EL1;
        if (features.s2p) scope.vmid = BY_VA.VMID.get(w);
        break;
      case OPCODE.TLBI_EL2_ALL:
      case OPCODE.TLBI_EL2_ASID:
      case OPCODE.TLBI_EL2_VA:
      case OPCODE.TLBI_EL2_VAA:
        if (!features.s1p || !features.hyp) return false;
        scope.kind = TLB_KIND.VA;
        scope.world = opcode === OPCODE.TLBI_EL2_ASID ? WORLD.EL2_E2H : el2;
        break;
      case OPCODE.TLBI_S12_VMALL:
      case OPCODE.TLBI_S2_IPA:
        if (!features.s2p) return false;
        scope.world = WORLD.NS_EL1;
        scope.vmid = BY_VA.VMID.get(w);
        if (opcode === OPCODE.TLBI_S2_IPA) scope.kind = TLB_KIND.IPA;
        break;
      case OPCODE.TLBI_NSNH_ALL:
        scope.world = WORLD.NS_EL1;
        break;
      default:
        return false;
    }
    const byAsid = opcode === OPCODE.TLBI_NH_ASID || opcode === OPCODE.TLBI_EL2_ASID;
    if (byAsid || opcode === OPCODE.TLBI_NH_VA || (opcode === OPCODE.TLBI_EL2_VA && e2h))
      scope.asid = BY_VA.ASID.get(w);
    scope.globals = !byAsid;
    if (opcode === OPCODE.TLBI_EL2_ALL) {
      scope.world = WORLD.EL2;
      this.#apply(scope, layout.name);
      scope.world = WORLD.EL2_E2H;
    }
    if ("TTL" in layout && !this.#range(scope, w)) return false;
    this.#apply(scope, layout.name);
    return true;
  }

  /** Address, range and level hint of a command by address (4.4.1.1). False when the encoding is reserved. */
  #range(scope: TlbScope, w: Int32Array): boolean {
    scope.ranged = true;
    scope.leaf = BY_VA.Leaf.get(w) === 1;
    scope.firstHi = BY_VA.Address.hi(w);
    scope.firstLo = BY_VA.Address.lo(w);
    const tg = this.chip.features.ril ? BY_VA.TG.get(w) : 0;
    const num = BY_VA.NUM.get(w);
    const scale = BY_VA.SCALE.get(w);
    let ttl = BY_VA.TTL.get(w);
    // With 16 KiB there are no level 1 blocks: the hint is reserved and treated as none.
    if (tg === 2 && ttl === 1) ttl = 0;
    if (tg !== 0 && num === 0 && scale === 0 && ttl === 0) return false;
    scope.granule = tg;
    scope.level = tg === 0 ? 0 : ttl;
    extend(scope, tg === 0 ? 1 : (num + 1) * POWERS[scale] * (1 << (10 + 2 * tg)));
    return true;
  }

  /** Broadcast TLB maintenance from a PE; ignored without BTM or with CR2.PTM. */
  broadcast(message: BroadcastInvalidate): void {
    const { features } = this.chip;
    if (!features.btm || (this.registers.words[r.CR2.index] & r.CR2.PTM.lowMask) !== 0) return;
    const scope = this.#anything();
    const { asid, first, last, regime } = message;
    scope.kind = regime === "stage1and2" ? -1 : regime === "stage2" ? TLB_KIND.IPA : TLB_KIND.VA;
    scope.world = regime === "el2" ? WORLD.EL2 : regime === "el2-e2h" ? WORLD.EL2_E2H : WORLD.NS_EL1;
    // Without stage 2 every entry has VMID 0, and messages count as having it (3.17).
    if (scope.world === WORLD.NS_EL1) scope.vmid = features.s2p ? (message.vmid ?? 0) : 0;
    if (asid !== undefined) {
      scope.asid = asid;
      scope.globals = first !== undefined;
      scope.sharedOnly = true;
    }
    if (first !== undefined) {
      scope.ranged = true;
      scope.leaf = message.leaf ?? false;
      scope.firstHi = Number((first >> 32n) & 0xffff_ffffn) | 0;
      scope.firstLo = Number(first & 0xffff_ffffn) | 0;
      const end = last ?? first;
      scope.lastHi = Number((end >> 32n) & 0xffff_ffffn) | 0;
      scope.lastLo = Number(end & 0xffff_ffffn) | 0;
    }
    this.#apply(scope, "broadcast");
  }

  #anything(): TlbScope {
    const scope = this.#scope;
    scope.kind = -1;
    scope.world = -1;
    scope.asid = -1;
    scope.vmid = -1;
    scope.vmidMask = 0xffff & ~((1 << this.#vmw()) - 1);
    scope.globals = true;
    scope.sharedOnly = false;
    scope.ranged = false;
    scope.leaf = false;
    scope.granule = 0;
    scope.level = 0;
    return scope;
  }

  /** Low VMID bits that do not count (CR0.VMW, 3.17.6). */
  #vmw(): number {
    const vmw = r.CR0.VMW.get(this.registers.words, r.CR0.index);
    return vmw <= 4 ? vmw : 0;
  }

  #apply(scope: TlbScope, name: string): void {
    const entries = this.tlb.invalidate(scope);
    const { trace } = this.chip.ports;
    if (trace.enabled) trace.emit("cache:invalidated", { unit: this.chip.name, cache: "TLB", scope: name, entries });
    if (scope.leaf) return;
    // Table descriptors have no leaf's level; they go whatever the hint says.
    scope.level = 0;
    const tables = this.walks.invalidate(scope);
    if (trace.enabled && tables > 0) {
      trace.emit("cache:invalidated", { unit: this.chip.name, cache: "walk", scope: name, entries: tables });
    }
  }
}

/** Sets the scope's end `size` bytes on; the range ends with the address space. */
function extend(scope: TlbScope, size: number): void {
  const top = 0x00ff_ffff;
  const lo = (scope.firstLo >>> 0) + ((size - 1) % 0x1_0000_0000);
  const hi = (scope.firstHi & top) + Math.floor((size - 1) / 0x1_0000_0000) + (lo > 0xffff_ffff ? 1 : 0);
  scope.lastHi = hi > top ? top : hi;
  scope.lastLo = hi > top ? -1 : lo | 0;
}
