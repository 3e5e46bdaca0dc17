/**
 * Interrupt remapping (VT-d 5.1): decodes interrupt requests, looks their entry up, checks it, and forms the message.
 * Left out: posted interrupts (CAP.PI is 0 in every preset; entries that ask for them violate a reserved field).
 */
import { type ChipPorts, join64, physical, TranslationStatus } from "@iommukit/core";
import { InterruptFault } from "../spec/faults.js";
import { INTERRUPT_ADDRESS as ADDRESS, INTERRUPT_DATA as DATA, IRTE } from "../spec/interrupt-remapping.js";
import type { Capabilities } from "./capabilities.js";
import type { FaultRecording } from "./fault-recording.js";
import { InterruptEntryCache } from "./interrupt-entry-cache.js";
import { AddressType, Request } from "./request.js";
import { reservedMask, violates } from "./reserved.js";
import { ownOf } from "./tag-cache.js";

const INTERRUPT_BASE = 0xfee0_0000;
const TWO32 = 0x1_0000_0000;
/** Source-id bits that SQ lets differ (9.9): none, bit 2, bits 2:1, bits 2:0. */
const QUALIFIER_MASK = [0xffff, 0xfffb, 0xfff9, 0xfff8] as const;
/** The message of a remapped interrupt is always asserted. */
const LEVEL_ASSERTED = 1 << 14;

export interface RemappedInterrupt {
  /** Where the message goes; bits 63:40 hold the upper 24 bits of a 32-bit APIC id. */
  address: number;
  data: number;
  /** Destination APIC id. */
  destination: number;
}

export class InterruptRemapping {
  /** GSTS.IRES */
  enabled = false;
  readonly cache: InterruptEntryCache;
  /** The last message that went out, remapped or not. */
  readonly last: RemappedInterrupt = { address: 0, data: 0, destination: 0 };
  #tableHi = 0;
  #tableLo = 0;
  #entries = 2;
  #extended = false;
  #index = 0;
  readonly #request = new Request();
  readonly #address = new Int32Array(1);
  readonly #data = new Int32Array(1);
  readonly #reserved: Int32Array;
  /** With 8-bit APIC ids only bits 15:8 of DST exist. */
  readonly #reservedXapic: Int32Array;

  constructor(
    private readonly unit: string,
    private readonly caps: Capabilities,
    private readonly faults: () => FaultRecording,
    private readonly ports: ChipPorts,
  ) {
    this.cache = new InterruptEntryCache(caps.preset.caches.interruptEntry);
    this.#reserved = reservedMask(IRTE, { haw: 64, missing: ["IM"] });
    this.#reservedXapic = reservedMask(IRTE, {
      haw: 64,
      missing: ["IM"],
      bits: [
        [32, 39],
        [48, 63],
      ],
    });
  }

  /** Set Interrupt Remap Table Pointer. */
  setTable(hi: number, lo: number, entries: number, extended: boolean): void {
    this.#tableHi = hi;
    this.#tableLo = lo;
    this.#entries = entries;
    this.#extended = extended && this.caps.ecap.EIM;
  }

  reset(): void {
    this.enabled = false;
    this.setTable(0, 0, 2, false);
    this.cache.invalidateAll();
  }

  /** @returns INTERRUPT when a message went out, FAULT when the request was blocked */
  deliver(rid: number, address: number, data: number): number {
    const request = this.#request;
    request.start(rid, -1, 0, address | 0, 0, AddressType.UNTRANSLATED);
    this.#address[0] = address | 0;
    this.#data[0] = data | 0;
    this.#index = 0;
    const fault = this.#process(request, address, data);
    if (fault !== 0) {
      this.faults().reportInterrupt(fault, request, this.#index);
      return TranslationStatus.FAULT;
    }
    this.ports.message(this.last.address, this.last.data);
    return TranslationStatus.INTERRUPT;
  }

  /** 5.1.4 */
  #process(request: Request, address: number, data: number): number {
    const { ecap } = this.caps;
    if (!this.enabled) return ecap.IRREQ ? InterruptFault.REMAPPING_REQUIRED.code : this.#pass(address, data);
    if (ecap.EIMER && !this.#extended) return InterruptFault.EXTENDED_MODE_REQUIRED.code;
    if (ADDRESS.FORMAT.get(this.#address) === 0) {
      const passes = !this.#extended && this.compatibilityPasses();
      return passes ? this.#pass(address, data) : InterruptFault.COMPATIBILITY_BLOCKED.code;
    }
    if (ADDRESS.SHV.get(this.#address) === 1 && DATA.reservedViolated(this.#data))
      return InterruptFault.REQUEST_RESERVED.code;
    const index = indexOf(this.#address, this.#data);
    this.#index = index & 0xffff;
    if (index >= this.#entries) return InterruptFault.INDEX_TOO_LARGE.code;
    const pa = physical(this.#tableHi, this.#tableLo) + index * IRTE.bytes;
    if (pa >= 2 ** this.caps.haw) return InterruptFault.INDEX_TOO_LARGE.code;
    const at = this.#entry(index, pa);
    if (at < 0) return InterruptFault.TABLE_ACCESS.code;
    return this.#remap(this.cache.tags.words, at, request);
  }

  /** GSTS.CFIS; the chip sets it. */
  compatibilityPasses: () => boolean = () => false;

  #pass(address: number, data: number): number {
    this.last.address = address;
    this.last.data = data;
    this.last.destination = (address >>> 12) & 0xff;
    return 0;
  }

  /**
   * Word of the entry in the cache's array; -1 when the table is not in memory. An entry that this request cannot use is not
   * kept unless CM (6.4).
   */
  #entry(index: number, pa: number): number {
    const { tags } = this.cache;
    let slot = tags.find(index, 0, 0, 0);
    const { trace, memory } = this.ports;
    if (trace.enabled)
      trace.emit(slot >= 0 ? "config:hit" : "config:missed", {
        unit: this.unit,
        cache: "interrupt-entry",
        rid: this.#request.rid,
        pasid: -1,
      });
    if (slot >= 0) return ownOf(slot);
    const view = memory.view(Math.floor(pa / TWO32), pa | 0, IRTE.words);
    if (view === null) return -1;
    const from = memory.viewAt;
    if (trace.enabled)
      trace.emit("table:read", {
        unit: this.unit,
        table: "irte",
        index,
        address: pa,
        value: join64(view[from + 1], view[from]),
      });
    slot = tags.claim(index, 0, 0, 0);
    const { words } = tags;
    const at = ownOf(slot);
    for (let i = 0; i < IRTE.words; i++) words[at + i] = view[from + i];
    if (!this.caps.cap.CM && this.#entryFault(words, at, this.#request.rid) !== 0) tags.drop(slot);
    return at;
  }

  /** In the order of 5.1.4: present, the source, then what only remapped entries have. */
  #entryFault(words: Int32Array, at: number, rid: number): number {
    if (IRTE.P.get(words, at) === 0) return InterruptFault.IRTE_NOT_PRESENT.code;
    if (IRTE.SVT.get(words, at) === 3) return InterruptFault.IRTE_RESERVED.code;
    if (!sourceMatches(words, at, rid)) return InterruptFault.SOURCE_ID.code;
    const reserved = this.#extended ? this.#reserved : this.#reservedXapic;
    return violates(words, at, reserved) ? InterruptFault.IRTE_RESERVED.code : 0;
  }

  #remap(words: Int32Array, at: number, request: Request): number {
    request.faultsDisabled = IRTE.FPD.get(words, at) === 1;
    const fault = this.#entryFault(words, at, request.rid);
    if (fault !== 0) return fault;
    const dst = IRTE.DST.get(words, at);
    const destination = this.#extended ? dst : dst >>> 8;
    const mode = (IRTE.RH.get(words, at) << 3) | (IRTE.DM.get(words, at) << 2);
    this.last.destination = destination;
    this.last.address =
      Math.floor(destination / 256) * 256 * TWO32 + INTERRUPT_BASE + ((destination & 0xff) << 12) + mode;
    this.last.data =
      IRTE.V.get(words, at) | (IRTE.DLM.get(words, at) << 8) | LEVEL_ASSERTED | (IRTE.TM.get(words, at) << 15);
    return 0;
  }
}

/** Interrupt index of a request in remappable format (5.1.3). */
function indexOf(address: Int32Array, data: Int32Array): number {
  const handle = ADDRESS.HANDLE.get(address) | (ADDRESS.HANDLE15.get(address) << 15);
  return handle + (ADDRESS.SHV.get(address) === 1 ? DATA.SUBHANDLE.get(data) : 0);
}

/** As the hardware computes it from a message's address and data. */
export function interruptIndex(address: number, data: number): number {
  return indexOf(Int32Array.of(address), Int32Array.of(data));
}

/** Source validation (9.9): by SID under SQ, or by a range of buses. */
function sourceMatches(words: Int32Array, at: number, rid: number): boolean {
  const sid = IRTE.SID.get(words, at);
  const type = IRTE.SVT.get(words, at);
  if (type === 1) return ((sid ^ rid) & QUALIFIER_MASK[IRTE.SQ.get(words, at)]) === 0;
  if (type === 2) return rid >>> 8 >= sid >>> 8 && rid >>> 8 <= (sid & 0xff);
  return true;
}
