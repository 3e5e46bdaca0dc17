/** A chip on a small board, programmed through its registers and RAM as a driver would: what the hardware tests share. */
import {
  Access,
  AtsCompletion,
  bareBoard,
  type InvalidateRequest,
  type PageRequest,
  type PrgResponse,
  type Scheduler,
  SlabMemory,
  type TraceRecord,
  type Tracer,
  Translation,
} from "@iommukit/core";
import * as s from "../../src/index.js";

export const RAM = 0x4000_0000;
const STREAM_TABLE = RAM + 0x10_0000;
export const CD_TABLE = RAM + 0x20_0000;
const COMMANDS = RAM + 0x30_0000;
const EVENTS = RAM + 0x31_0000;
const PAGES = RAM + 0x32_0000;
export const S1_ROOT = RAM + 0x40_0000;
export const S2_ROOT = RAM + 0x50_0000;
const TABLES = RAM + 0x60_0000;
export const DATA = RAM + 0x100_0000;
/** Nothing answers here. */
export const HOLE = 0x9_0000_0000;

const QUEUE_LOG2 = 4;

/** Values of a table's fields, as its `encode` takes them. */
export type Fields = Readonly<Record<string, number | bigint | boolean | string>>;

/** An endpoint that remembers what it is told. */
export class Endpoint {
  readonly invalidations: InvalidateRequest[] = [];
  readonly responses: PrgResponse[] = [];
  readonly stalls: { stag: number; action: string }[] = [];
  /** Completes each invalidation at once; false leaves it to the test. */
  completes = true;

  constructor(
    private readonly machine: Machine,
    private readonly rid: number,
  ) {}

  invalidate(request: InvalidateRequest): void {
    this.invalidations.push(request);
    if (this.completes) this.complete(request.itag);
  }

  complete(itag: number, count = 1): void {
    this.machine.chip.invalidateCompletion({ rid: this.rid, itagVector: 1 << itag, count });
  }

  pageResponse(response: PrgResponse): void {
    this.responses.push(response);
  }

  stallResolved(stag: number, action: "retry" | "terminate" | "abort"): void {
    this.stalls.push({ stag, action });
  }
}

export class Machine {
  readonly memory = new SlabMemory([{ base: RAM, size: 0x1000_0000 }]);
  readonly scheduler: Scheduler;
  readonly trace: Tracer;
  readonly wires: string[] = [];
  readonly messages: { address: number; data: number }[] = [];
  readonly endpoints = new Map<number, Endpoint>();
  readonly chip: s.Smmuv3Hardware;
  readonly out = new Translation();
  readonly completion = new AtsCompletion();
  #nextTable = TABLES;
  #eventsRead = 0;

  constructor(readonly preset: s.Smmuv3PresetName | s.Smmuv3Preset = "everything") {
    const board = bareBoard(this.memory, {
      message: (address, data) => {
        if (address >= 0xff00_0000) return false;
        this.messages.push({ address, data });
        return true;
      },
      wire: (line, level) => {
        if (level) this.wires.push(line);
      },
      requesters: { find: (rid) => this.endpoints.get(rid) },
    });
    this.scheduler = board.scheduler;
    this.trace = board.trace;
    this.chip = new s.Smmuv3Hardware(board, { name: "smmuv3", preset });
  }

  /** Linear stream table of 256, queues of 16, everything enabled but ATSCHK. */
  start(cr0: Fields = {}, cr2: Fields = { RECINVSID: true }): this {
    const { chip } = this;
    this.set(s.CR2, cr2);
    this.set(s.STRTAB_BASE, { ADDR: STREAM_TABLE });
    this.set(s.STRTAB_BASE_CFG, { LOG2SIZE: 8 });
    this.set(s.CMDQ_BASE, { ADDR: COMMANDS, LOG2SIZE: QUEUE_LOG2 });
    this.set(s.EVENTQ_BASE, { ADDR: EVENTS, LOG2SIZE: QUEUE_LOG2 });
    this.set(s.PRIQ_BASE, { ADDR: PAGES, LOG2SIZE: 2 });
    chip.write32(s.IRQ_CTRL.offset, 7);
    this.set(s.CR0, { SMMUEN: true, EVENTQEN: true, CMDQEN: true, PRIQEN: true, ...cr0 });
    return this;
  }

  /** Writes a register from fields. */
  set(register: { offset: number; bits: number; encode(values: object): Int32Array }, values: Fields): void {
    const words = register.encode(values);
    if (register.bits === 64)
      this.chip.write64(register.offset, (BigInt(words[1] >>> 0) << 32n) | BigInt(words[0] >>> 0));
    else this.chip.write32(register.offset, words[0] >>> 0);
  }

  /** Encodes an entry straight into RAM. */
  put(
    table: { words: number; encode(values: object, into?: Int32Array): Int32Array },
    pa: number,
    values: Fields,
  ): void {
    const words = table.encode(values);
    for (let i = 0; i < words.length; i++) this.memory.store32(pa + i * 4, words[i]);
  }

  ste(sid: number, values: Fields): void {
    this.put(s.STE, STREAM_TABLE + sid * 64, { V: true, ...values });
  }

  /** A CD that translates 48 bits through TTB0 with 4 KiB pages, at index `ssid` of the linear table. */
  cd(values: Fields = {}, ssid = 0): void {
    this.put(s.CD, CD_TABLE + ssid * 64, {
      V: true,
      AA64: true,
      T0SZ: 16,
      TTB0: S1_ROOT,
      EPD1: true,
      IPS: 5,
      R: true,
      A: true,
      ASID: 1 + ssid,
      ...values,
    });
  }

  /** A stream with stage 1 through CD 0. */
  stage1(sid = 0, ste: Fields = {}, cd: Fields = {}): void {
    this.ste(sid, { Config: "s1", S1ContextPtr: CD_TABLE, ...ste });
    this.cd(cd);
  }

  /** Fields of a stage 2 of 40 bits from level 1 (4 KiB, two concatenated tables). */
  static readonly STAGE2: Fields = {
    S2VMID: 7,
    S2T0SZ: 24,
    S2SL0: 1,
    S2PS: 5,
    S2AA64: true,
    S2R: true,
    S2TTB: S2_ROOT,
  };

  stage2(sid = 0, ste: Fields = {}): void {
    this.ste(sid, { Config: "s2", ...Machine.STAGE2, ...ste });
  }

  /** Maps a stage 1 page or block; makes tables as needed. */
  map(
    va: bigint,
    pa: number,
    fields: Fields = {},
    options: { level?: number; granule?: number; bits?: number; root?: number } = {},
  ): number {
    const leaf = { AP: "readWrite", AF: true, nG: true, SH: "inner", ...fields };
    return this.#map(s.S1_DESCRIPTOR, va, pa, leaf, { root: S1_ROOT, bits: 48, ...options });
  }

  map2(
    ipa: bigint,
    pa: number,
    fields: Fields = {},
    options: { level?: number; granule?: number; bits?: number; root?: number } = {},
  ): number {
    const leaf = { S2AP: "readWrite", AF: true, MemAttr: 15, ...fields };
    return this.#map(s.S2_DESCRIPTOR, ipa, pa, leaf, { root: S2_ROOT, bits: 40, ...options });
  }

  /** Answers the leaf descriptor's address. */
  #map(
    layout: typeof s.S1_DESCRIPTOR | typeof s.S2_DESCRIPTOR,
    va: bigint,
    pa: number,
    fields: Fields,
    { level = 3, granule = 12, bits, root }: { level?: number; granule?: number; bits: number; root: number },
  ): number {
    const stride = granule - 3;
    let table = root;
    // Concatenated start tables of stage 2 begin one level lower.
    let at = layout === s.S2_DESCRIPTOR && bits === 40 ? 1 : 4 - Math.ceil((bits - granule) / stride);
    for (let start = true; ; at++, start = false) {
      const shift = granule + (3 - at) * stride;
      const width = start ? bits - shift : stride;
      const index = Number((va >> BigInt(shift)) & ((1n << BigInt(width)) - 1n));
      const entry = table + index * 8;
      if (at === level) {
        const high = Math.floor(pa / 2 ** 48);
        this.put(layout, entry, {
          Type: at === 3 ? "tableOrPage" : "block",
          OutputAddress: (pa % 2 ** 48) + high * 4096,
          ...fields,
        });
        return entry;
      }
      const next = this.memory.load64(entry);
      if ((next & 1n) === 1n) {
        table = Number(next & 0xffff_ffff_f000n);
        continue;
      }
      const size = 2 ** granule;
      this.#nextTable = Math.ceil(this.#nextTable / size) * size;
      this.put(s.TABLE_DESCRIPTOR, entry, { Type: "tableOrPage", NextLevelTable: this.#nextTable });
      table = this.#nextTable;
      this.#nextTable += size;
    }
  }

  /** Submits commands and a CMD_SYNC after them. */
  command(...commands: readonly [table: { encode(values: object): Int32Array }, values: Fields][]): void {
    for (const [table, values] of [...commands, [s.CMD_SYNC, { Opcode: "SYNC" }] as const])
      this.submit(table.encode(values));
  }

  submit(words: Int32Array): void {
    const prod = this.chip.read32(s.CMDQ_PROD.offset);
    for (let i = 0; i < 4; i++) this.memory.store32(COMMANDS + (prod & 15) * 16 + i * 4, words[i]);
    this.chip.write32(s.CMDQ_PROD.offset, (prod + 1) & 31);
  }

  /** Everything cached goes. */
  flush(): void {
    this.command(
      [s.CMD_CFGI_STE_RANGE, { Opcode: "CFGI_STE_RANGE", Range: 31 }],
      [s.CMD_TLBI_NSNH_ALL, { Opcode: "TLBI_NSNH_ALL" }],
    );
  }

  translate(address: bigint, access: number = Access.READ, sid = 0, pasid = -1): number {
    const hi = Number((address >> 32n) & 0xffff_ffffn) | 0;
    return this.chip.translate(sid, pasid, hi, Number(address & 0xffff_ffffn) | 0, access, this.out);
  }

  /** Physical address of the last translation. */
  get pa(): number {
    return (this.out.hi >>> 0) * 2 ** 32 + (this.out.lo >>> 0);
  }

  ats(address: bigint, access: number = Access.READ, sid = 0, pasid = -1): number {
    const hi = Number((address >> 32n) & 0xffff_ffffn) | 0;
    return this.chip.translationRequest(sid, pasid, hi, Number(address & 0xffff_ffffn) | 0, access, this.completion);
  }

  get completionPa(): number {
    return (this.completion.hi >>> 0) * 2 ** 32 + (this.completion.lo >>> 0);
  }

  endpoint(rid: number): Endpoint {
    const endpoint = new Endpoint(this, rid);
    this.endpoints.set(rid, endpoint);
    return endpoint;
  }

  pageRequest(request: Partial<PageRequest> & { rid: number }): void {
    const plain = {
      pasid: -1,
      hi: 0,
      lo: 0x1000,
      read: true,
      write: false,
      execute: false,
      privileged: false,
      last: true,
      prgi: 0,
    };
    this.chip.pageRequest({ ...plain, ...request });
  }

  /** The events that came since the last call, decoded; the queue is emptied. */
  events(): Record<string, unknown>[] {
    const events: Record<string, unknown>[] = [];
    const prod = this.chip.read32(s.EVENTQ_PROD.offset);
    while ((this.#eventsRead & 31) !== (prod & 31)) {
      const at = EVENTS + (this.#eventsRead & 15) * 32;
      const words = Int32Array.from({ length: 8 }, (_, i) => this.memory.load32(at + i * 4) | 0);
      const layout = s.EVENTS.get(words[0] & 0xff);
      events.push(layout ? layout.decode(words) : { ID: words[0] & 0xff });
      this.#eventsRead++;
    }
    this.chip.write32(s.EVENTQ_CONS.offset, ((this.#eventsRead & 31) | (prod & 0x8000_0000)) >>> 0);
    return events;
  }

  /** The PRI queue's entries between the indexes, decoded; they stay. */
  pageRequests(): Record<string, unknown>[] {
    const entries: Record<string, unknown>[] = [];
    const prod = this.chip.read32(s.PRIQ_PROD.offset) & 7;
    for (let i = this.chip.read32(s.PRIQ_CONS.offset) & 7; i !== prod; i = (i + 1) & 7) {
      const words = Int32Array.from({ length: 4 }, (_, w) => this.memory.load32(PAGES + (i & 3) * 16 + w * 4) | 0);
      entries.push(s.PRIQ_ENTRY.decode(words));
    }
    return entries;
  }

  /** Runs something and answers what the trace saw of it. */
  traced(body: () => void): TraceRecord[] {
    const records: TraceRecord[] = [];
    const stop = this.trace.subscribe((record) => records.push(record));
    body();
    stop();
    return records;
  }
}

/** The machine of most tests: everything, started. */
export function machine(preset: s.Smmuv3PresetName | s.Smmuv3Preset = "everything"): Machine {
  return new Machine(preset).start();
}

/** A preset with other fields in its identification registers. */
export function variant(
  name: s.Smmuv3PresetName,
  fields: { readonly idr0?: Fields; readonly idr1?: Fields; readonly idr3?: Fields; readonly idr5?: Fields },
): s.Smmuv3Preset {
  const preset = s.PRESETS[name];
  const change = (
    register: { decode(words: Int32Array): object; encode(values: object): Int32Array },
    value: number,
    values: Fields = {},
  ) => register.encode({ ...register.decode(Int32Array.of(value)), ...values })[0];
  return {
    ...preset,
    name: "variant",
    idr0: change(s.IDR0, preset.idr0, fields.idr0),
    idr1: change(s.IDR1, preset.idr1, fields.idr1),
    idr3: change(s.IDR3, preset.idr3, fields.idr3),
    idr5: change(s.IDR5, preset.idr5, fields.idr5),
  };
}
