/** A unit on a bench: memory, recorded messages, devices, and helpers that build tables and program registers as software does. */
import {
  AtsCompletion,
  bareBoard,
  hiOf,
  type InvalidateRequest,
  join64,
  type Layout,
  loOf,
  NO_PASID,
  type PrgResponse,
  type Scheduler,
  SlabMemory,
  type TraceRecord,
  type Tracer,
  Translation,
} from "@iommukit/core";
import { VtdHardware } from "../../src/hardware/vtd-hardware.js";
import { everything, type VtdPreset } from "../../src/presets.js";
import { FRCD } from "../../src/spec/faults.js";
import { PASID_DIRECTORY_ENTRY, PASID_ENTRY } from "../../src/spec/pasid-table.js";
import {
  CAP,
  CCMD,
  ECAP,
  FSTS,
  frcdRegisters,
  GCMD,
  GSTS,
  IQA,
  IQH,
  IQT,
  iotlbRegisters,
  RTADDR,
} from "../../src/spec/registers.js";
import { CONTEXT_ENTRY, ROOT_ENTRY, SM_CONTEXT_ENTRY, SM_ROOT_ENTRY } from "../../src/spec/root-context.js";

export const RAM = 0x1_0000_0000;
export const RID = 0x0110;
export const ROOT = RAM + 0xa000;
export const CONTEXTS = RAM + 0x1000;
export const DIRECTORY = RAM + 0x2000;
export const PASIDS = RAM + 0x3000;
export const QUEUE = RAM + 0x4000;
export const STATUS = RAM + 0x6000;
export const PRQ = RAM + 0x7000;
/** First page for page tables. */
export const TABLES = RAM + 0x10000;

type AnyTable = Layout;

/** Any register, as a test programs it. */
interface AnyRegister<V> {
  readonly offset: number;
  readonly words: number;
  encode(values: Record<string, unknown>): Int32Array;
  decode(words: Int32Array): V;
}

const big = (words: Int32Array) => (BigInt(words[1] >>> 0) << 32n) | BigInt(words[0] >>> 0);
const words64 = (value: bigint) =>
  Int32Array.of(Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n)));

/** The preset with other values of these fields of CAP. */
export function withCap(preset: VtdPreset, fields: Partial<Record<keyof (typeof CAP)["specs"], number>>): VtdPreset {
  return { ...preset, cap: big(CAP.encode({ ...CAP.decode(words64(preset.cap)), ...fields })) };
}

/** The preset with other values of these fields of ECAP. */
export function withEcap(preset: VtdPreset, fields: Partial<Record<keyof (typeof ECAP)["specs"], number>>): VtdPreset {
  return { ...preset, ecap: big(ECAP.encode({ ...ECAP.decode(words64(preset.ecap)), ...fields })) };
}

export class Bench {
  readonly scheduler: Scheduler;
  readonly trace: Tracer;
  readonly memory = new SlabMemory([{ base: RAM, size: 0x100_0000 }]);
  readonly messages: { address: number; data: number }[] = [];
  readonly wires: string[] = [];
  readonly invalidations: InvalidateRequest[] = [];
  readonly responses: PrgResponse[] = [];
  readonly chip: VtdHardware;
  readonly out = new Translation();
  readonly ats = new AtsCompletion();
  /** Devices answer invalidations at once. */
  answers = true;
  /** A function is behind RID. */
  present = true;
  #nextTable = TABLES;
  #tail = 0;

  constructor(preset: VtdPreset = everything) {
    const board = bareBoard(this.memory, {
      message: (address, data) => {
        this.messages.push({ address, data });
        return true;
      },
      wire: (line, level) => {
        if (level) this.wires.push(line);
      },
      requesters: {
        find: (rid) =>
          this.present
            ? {
                invalidate: (request) => {
                  this.invalidations.push(request);
                  if (this.answers) this.chip.invalidateCompletion({ rid, itagVector: 1 << request.itag, count: 1 });
                },
                pageResponse: (response) => this.responses.push(response),
                stallResolved: () => {},
              }
            : undefined,
      },
    });
    this.scheduler = board.scheduler;
    this.trace = board.trace;
    this.chip = new VtdHardware(board, { name: "vtd", preset });
  }

  /** Every event while `body` runs. */
  traced(body: () => void): TraceRecord[] {
    const records: TraceRecord[] = [];
    const stop = this.trace.subscribe((record) => records.push(record));
    body();
    stop();
    return records;
  }

  put(pa: number, table: unknown, values: Record<string, unknown>): void {
    const words = (table as AnyTable).encode(values as never);
    for (let i = 0; i < words.length; i += 2) this.memory.store64(pa + i * 4, words[i + 1], words[i]);
  }

  store(pa: number, value: bigint): void {
    this.memory.store64(pa, Number(BigInt.asIntN(32, value >> 32n)), Number(BigInt.asIntN(32, value)));
  }

  load(pa: number): bigint {
    return this.memory.load64(pa);
  }

  table(): number {
    this.#nextTable += 0x1000;
    return this.#nextTable - 0x1000;
  }

  /** Writes a register from its fields, all others zero. */
  set<V>(
    register: AnyRegister<V>,
    fields: { readonly [K in keyof V]?: V[K] | number | bigint | string | boolean },
  ): void {
    const words = register.encode(fields as Record<string, unknown>);
    if (register.words === 2) this.chip.write64(register.offset, big(words));
    else this.chip.write32(register.offset, words[0] >>> 0);
  }

  /** Reads a register's fields. */
  get<V>(register: AnyRegister<V>): V {
    const words = Array.from({ length: register.words }, (_, i) => this.chip.read32(register.offset + i * 4));
    return register.decode(Int32Array.from(words));
  }

  command(bit: keyof typeof GCMD & string, on = true): void {
    const field = GCMD.field(bit);
    const status = this.chip.read32(GSTS.offset) & 0x96ff_ffff;
    this.chip.write32(GCMD.offset, (on ? status | field.lowMask : status & ~field.lowMask) >>> 0);
  }

  setRoot(ttm: number, root = ROOT): void {
    this.set(RTADDR, { TTM: ttm, RTA: root });
    this.command("SRTP");
  }

  /** Legacy mode: root, context entry for RID, translation on. */
  legacy(context: Record<string, unknown>): void {
    this.put(ROOT + (RID >> 8) * 16, ROOT_ENTRY, { P: 1, CTP: CONTEXTS });
    this.put(this.contextAddress(false), CONTEXT_ENTRY, { P: 1, AW: 2, DID: 7, ...context });
    this.setRoot(0);
    this.command("TE");
  }

  contextAddress(scalable: boolean): number {
    return CONTEXTS + (scalable ? (RID & 0x7f) * 32 : (RID & 0xff) * 16);
  }

  /** Scalable mode: root, context, directory, the PASID entries given, translation and the queue on. */
  scalable(pasids: Record<number, Record<string, unknown>>, context: Record<string, unknown> = {}): void {
    this.put(ROOT + (RID >> 8) * 16, SM_ROOT_ENTRY, { LP: 1, LCTP: CONTEXTS });
    this.put(this.contextAddress(true), SM_CONTEXT_ENTRY, {
      P: 1,
      DTE: 1,
      PASIDE: 1,
      PRE: 1,
      PDTS: 0,
      PASIDDIRPTR: DIRECTORY,
      ...context,
    });
    this.put(DIRECTORY, PASID_DIRECTORY_ENTRY, { P: 1, SMPTBLPTR: PASIDS });
    for (const [pasid, values] of Object.entries(pasids))
      this.put(PASIDS + Number(pasid) * 64, PASID_ENTRY, { P: 1, PWSNP: 1, DID: 1, ...values });
    this.setRoot(1);
    this.enableQueue(true);
    this.command("TE");
  }

  enableQueue(wide: boolean, pages = 0): void {
    this.chip.write64(IQT.offset, 0n);
    this.chip.write64(IQA.offset, BigInt(QUEUE) | (wide ? 0x800n : 0n) | BigInt(pages));
    this.#tail = 0;
    this.command("QIE");
  }

  /** Queues descriptors and rings. */
  submit(...descriptors: Int32Array[]): void {
    const wide = (this.chip.read64(IQA.offset) & 0x800n) !== 0n;
    const size = 4096 << Number(this.chip.read64(IQA.offset) & 7n);
    for (const words of descriptors) {
      this.memory.fill(QUEUE + this.#tail, wide ? 32 : 16, 0);
      for (let i = 0; i < words.length; i++) this.memory.store32(QUEUE + this.#tail + i * 4, words[i]);
      this.#tail = (this.#tail + (wide ? 32 : 16)) % size;
    }
    this.chip.write64(IQT.offset, BigInt(this.#tail));
  }

  get head(): number {
    return Number(this.chip.read64(IQH.offset));
  }

  get tail(): number {
    return this.#tail;
  }

  set tail(value: number) {
    this.#tail = value;
  }

  get status(): ReturnType<typeof FSTS.decode> {
    return this.get(FSTS);
  }

  frcdOffset(index: number): number {
    const cap = this.get(CAP);
    return frcdRegisters(cap.FRO, cap.NFR + 1)[index].LO.offset;
  }

  fault(index = 0): ReturnType<typeof FRCD.decode> {
    const at = this.frcdOffset(index);
    return FRCD.decode(new Int32Array([0, 4, 8, 12].map((delta) => this.chip.read32(at + delta) | 0)));
  }

  clearFault(index = 0): void {
    this.chip.write32(this.frcdOffset(index) + 12, 0x8000_0000);
  }

  /** Reason of the fault that FSTS.FRI points to, cleared; 0 for none. */
  takeReason(): number {
    const { FRI, PPF } = this.status;
    if (!PPF) return 0;
    const { FR } = this.fault(FRI);
    this.clearFault(FRI);
    return FR;
  }

  translate(address: bigint, access: number, pasid = NO_PASID, rid = RID): number {
    return this.chip.translate(
      rid,
      pasid,
      Number(BigInt.asIntN(32, address >> 32n)),
      Number(BigInt.asIntN(32, address)),
      access,
      this.out,
    );
  }

  get pa(): number {
    return Number(join64(this.out.hi, this.out.lo));
  }

  translationRequest(address: bigint, access: number, pasid = NO_PASID, rid = RID): number {
    return this.chip.translationRequest(
      rid,
      pasid,
      Number(BigInt.asIntN(32, address >> 32n)),
      Number(BigInt.asIntN(32, address)),
      access,
      this.ats,
    );
  }

  pageRequest(fields: Partial<Parameters<VtdHardware["pageRequest"]>[0]> & { address?: number }): void {
    const { address = 0, ...rest } = fields;
    this.chip.pageRequest({
      rid: RID,
      pasid: NO_PASID,
      hi: hiOf(address),
      lo: loOf(address),
      read: true,
      write: false,
      execute: false,
      privileged: false,
      last: true,
      prgi: 3,
      ...rest,
    });
  }

  /** Writes the entry of each level on the way to `address`; the leaf last. @returns physical address of the leaf entry */
  map(root: number, levels: number, address: bigint, leaf: bigint, link: bigint, leafLevel = 1): number {
    let table = root;
    for (let level = levels; level > leafLevel; level--) {
      const at = table + Number((address >> BigInt(3 + 9 * level)) & 0x1ffn) * 8;
      if (this.load(at) === 0n) this.store(at, BigInt(this.table()) | link);
      table = Number(this.load(at) & 0xf_ffff_ffff_f000n);
    }
    const at = table + Number((address >> BigInt(3 + 9 * leafLevel)) & 0x1ffn) * 8;
    this.store(at, leaf);
    return at;
  }

  invalidateEverything(): void {
    const { IOTLB } = iotlbRegisters(this.chip.capabilities.ecap.IRO);
    this.set(CCMD, { ICC: true, CIRG: "global" });
    this.set(IOTLB, { IVT: true, IIRG: "global" });
  }
}
