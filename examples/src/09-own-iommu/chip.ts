/** The plain IOMMU's hardware: it knows its registers and the board, and nothing of its driver. */
import {
  Access,
  AtsStatus,
  type ChipPorts,
  DOORBELL_BASE,
  DOORBELL_SIZE,
  emitTranslationEnd,
  hex,
  hiOf,
  type IommuChip,
  loOf,
  NO_PASID,
  PAGE_SIZE,
  physical,
  RegisterFile,
  type Translation,
  TranslationStatus,
  X86_TABLE,
} from "@iommukit/core";
import { CTRL, DEVICE_ENTRY, DEVTAB, FAULT, INVALIDATE, REGISTERS, type Reason } from "./spec.js";

const { OK, FAULT: BLOCKED, UNSUPPORTED } = TranslationStatus;
const LEVELS = 4;
const ADDRESS_BITS = 48;

/** What a page's translation is, as the TLB keeps it: physical address of the page, and whether it may be written. */
interface Leaf {
  readonly hi: number;
  readonly lo: number;
  readonly writable: boolean;
}

export class PlainHardware implements IommuChip {
  readonly units = [];
  readonly #file: RegisterFile;
  /** By requester id, then by page. Stale until the driver invalidates. */
  readonly #tlb = new Map<number, Map<number, Leaf>>();
  #invalidations = 0;
  readonly #ends;

  constructor(
    private readonly ports: ChipPorts,
    readonly name: string,
  ) {
    this.#file = new RegisterFile(name, 0x1000, REGISTERS);
    this.#ends = ports.trace.channel("translate:completed");
    this.#file.onWrite(INVALIDATE, () => this.#invalidate(INVALIDATE.RID.get(this.#file.words, INVALIDATE.index)));
  }

  reset(): void {
    this.#file.reset();
    this.#tlb.clear();
  }

  read32 = (offset: number): number => this.#file.read32(offset);
  write32 = (offset: number, value: number): void => this.#file.write32(offset, value);
  read64 = (offset: number): bigint => this.#file.read64(offset);
  write64 = (offset: number, value: bigint): void => this.#file.write64(offset, value);

  commandsConsumed(): Readonly<Record<string, number>> {
    return { INVALIDATE: this.#invalidations };
  }

  translate(rid: number, pasid: number, hi: number, lo: number, access: number, out: Translation): number {
    const status = this.#translate(rid, pasid, hi, lo, access, out);
    if (this.#ends.wanted) emitTranslationEnd(this.#ends, this.name, rid, pasid, hi, lo, access, status, out);
    return status;
  }

  /** ATS and PRI are not for this one: devices that try are told so. */
  translationRequest(): number {
    return AtsStatus.UR;
  }
  pageRequest(): void {}
  invalidateCompletion(): void {}

  #translate(rid: number, pasid: number, hi: number, lo: number, access: number, out: Translation): number {
    if (pasid !== NO_PASID || (access & Access.TRANSLATED) !== 0) return UNSUPPORTED;
    const address = physical(hi, lo);
    out.perms = Access.READ | Access.WRITE | Access.EXEC;
    out.shift = 12;
    out.hi = hi;
    out.lo = lo;
    const enabled = CTRL.EN.get(this.#file.words, CTRL.index) !== 0;
    if (!enabled || (address >= DOORBELL_BASE && address < DOORBELL_BASE + DOORBELL_SIZE)) return OK;
    const write = (access & Access.WRITE) !== 0;
    const leaf = address < 2 ** ADDRESS_BITS ? this.#lookUp(rid, address) : "not mapped";
    if (typeof leaf === "string") return this.#fault(rid, address, write, leaf);
    if (write && !leaf.writable) return this.#fault(rid, address, write, "not writable");
    if (!leaf.writable) out.perms &= ~Access.WRITE;
    out.hi = leaf.hi;
    out.lo = leaf.lo | (lo & (PAGE_SIZE - 1));
    return OK;
  }

  #lookUp(rid: number, address: number): Leaf | Reason {
    const page = Math.floor(address / PAGE_SIZE);
    const cached = this.#tlb.get(rid)?.get(page);
    if (cached) return cached;
    const leaf = this.#walk(rid, page);
    if (typeof leaf === "string") return leaf;
    const pages = this.#tlb.get(rid) ?? new Map<number, Leaf>();
    this.#tlb.set(rid, pages.set(page, leaf));
    return leaf;
  }

  #walk(rid: number, page: number): Leaf | Reason {
    const { memory } = this.ports;
    const fetch = (field: typeof DEVICE_ENTRY.ROOT, hi: number, lo: number) => {
      const words = memory.view(hi, lo, 2);
      if (!words) return undefined;
      const at = memory.viewAt;
      return {
        valid: (words[at] & 1) !== 0,
        writable: X86_TABLE.RW.get(words, at) !== 0,
        hi: field.hi(words, at),
        lo: field.lo(words, at),
      };
    };
    const base = DEVTAB.ADDR.get(this.#file.words, DEVTAB.index) + rid * DEVICE_ENTRY.bytes;
    const root = fetch(DEVICE_ENTRY.ROOT, hiOf(base), loOf(base));
    if (!root?.valid) return root ? "no device entry" : "no memory where a table should be";
    let { hi, lo } = root;
    let writable = true;
    for (let level = LEVELS - 1; level >= 0; level--) {
      const index = Math.floor(page / 512 ** level) % 512;
      const entry = fetch(X86_TABLE.ADDR, hi, lo | (index * 8));
      if (!entry?.valid) return entry ? "not mapped" : "no memory where a table should be";
      ({ hi, lo } = entry);
      writable &&= entry.writable;
    }
    return { hi, lo, writable };
  }

  #invalidate(rid: number): void {
    this.#invalidations++;
    const { trace } = this.ports;
    const entries = this.#tlb.get(rid)?.size ?? 0;
    this.#tlb.delete(rid);
    if (trace.enabled)
      trace.emit("cache:invalidated", { unit: this.name, cache: "TLB", scope: `requester ${hex(rid, 4)}`, entries });
  }

  #fault(rid: number, address: number, write: boolean, reason: Reason): number {
    const { words } = this.#file;
    const { trace } = this.ports;
    const fault = { unit: this.name, rid, pasid: NO_PASID, address: BigInt(address), fault: reason };
    if (FAULT.F.get(words, FAULT.index) !== 0) {
      if (trace.enabled) trace.emit("fault:dropped", { ...fault, reason: "FAULT.F is set" });
      return BLOCKED;
    }
    const page = address - (address % PAGE_SIZE);
    FAULT.encode(
      { F: true, WRITE: write, REASON: reason, PAGE: page % 2 ** ADDRESS_BITS, RID: rid },
      words,
      FAULT.index,
    );
    if (trace.enabled)
      trace.emit("fault:recorded", { ...fault, words: [...words.subarray(FAULT.index, FAULT.index + 2)] });
    this.ports.wire("fault", true);
    this.ports.wire("fault", false);
    return BLOCKED;
  }
}
