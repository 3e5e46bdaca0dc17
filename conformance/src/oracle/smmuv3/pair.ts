/**
 * The model and QEMU's SMMUv3 side by side: whatever is done here is done to both, and what each answers is compared when
 * the pipeline is collected. QEMU runs ahead of nothing: within a case every step is in order on both sides.
 */
import { Access, bareBoard, SlabMemory, Translation, TranslationStatus } from "@iommukit/core";
import {
  CMD_SYNC,
  CMDQ_BASE,
  CMDQ_CONS,
  CMDQ_PROD,
  CR0,
  CR2,
  EVENTQ_BASE,
  EVENTQ_CONS,
  EVENTQ_PROD,
  GBPA,
  GERROR,
  GERRORN,
  Smmuv3Hardware,
  STRTAB_BASE,
  STRTAB_BASE_CFG,
} from "@iommukit/iommu-smmuv3";
import { Edu } from "../edu.js";
import { Qtest, type Reply } from "../qtest.js";
import * as at from "./layout.js";
import { type Configuration, Outcome, type TableRead } from "./outcome.js";

const ON = CR0.SMMUEN.lowMask | CR0.CMDQEN.lowMask | CR0.EVENTQEN.lowMask;
const OFF = ON & ~CR0.SMMUEN.lowMask;
const SYNC = CMD_SYNC.encode({ Opcode: "SYNC" });
const EVENT_BYTES = 32;
/** Half of the device's buffer holds tokens, the other half takes what it reads. */
const TOKENS = 512;
const READ_OFFSET = 0x800;

/** What both sides said to one case. */
export interface Verdict {
  readonly outcomes: readonly Outcome[];
  /** Register values: the model's and QEMU's. */
  readonly registers: readonly { readonly name: string; readonly model: number; readonly qemu: number }[];
}

export class Pair {
  readonly memory = new SlabMemory([at.RAM]);
  readonly #chip: Smmuv3Hardware;
  readonly #out = new Translation();
  readonly #qtest: Qtest;
  readonly #edu: Edu;
  #outcomes: Outcome[] = [];
  #reads: TableRead[] = [];
  #history: TableRead[] = [];
  #configurations: Configuration[] = [];
  #registers: { name: string; model: number; qemu: Reply }[] = [];
  #commandIndex = 0;
  #eventIndex = 0;
  #nextToken = 0;

  constructor(twoLevel: boolean) {
    const board = bareBoard(this.memory);
    board.trace.on("table:read", ({ table, index, value }) => this.#reads.push({ table, index, value }));
    this.#chip = new Smmuv3Hardware(board, { name: "smmuv3", preset: "qemu-11-virt" });
    const edu = `edu,dma_mask=0xffffffffffffffff,addr=${at.EDU_SLOT.toString(16).padStart(2, "0")}.0`;
    const machine = [
      "-M",
      "virt,iommu=smmuv3,gic-version=3",
      "-cpu",
      "max",
      "-m",
      "512",
      "-net",
      "none",
      "-device",
      edu,
    ];
    this.#qtest = new Qtest("aarch64", machine);
    this.#edu = new Edu(this.#qtest, at.EDU_BAR);
    this.#start(twoLevel);
  }

  close(): void {
    this.#qtest.close();
  }

  #start(twoLevel: boolean): void {
    const q = this.#qtest;
    const config = at.ECAM + (at.EDU_SID << 12);
    q.writel(config + 0x10, at.EDU_BAR);
    q.writel(config + 0x04, 6);
    const pattern = Buffer.alloc(0x1000);
    for (let i = 0; i < TOKENS; i++) pattern.writeUInt32LE(token(i), i * 4);
    q.write(at.PATTERN, pattern);
    this.#edu.load(BigInt(at.PATTERN));
    q.flush();
    this.write64(CMDQ_BASE.offset, BigInt(at.COMMAND_QUEUE.base + at.COMMAND_QUEUE.log2));
    this.write64(EVENTQ_BASE.offset, BigInt(at.EVENT_QUEUE.base + at.EVENT_QUEUE.log2));
    this.write64(STRTAB_BASE.offset, BigInt(at.STREAM_TABLE));
    const split = twoLevel ? STRTAB_BASE_CFG.encode({ FMT: "twoLevel", SPLIT: "span4K" })[0] : 0;
    this.write32(STRTAB_BASE_CFG.offset, at.STREAMS_LOG2 | split);
    this.write32(CR2.offset, CR2.RECINVSID.lowMask);
    this.write32(CR0.offset, ON);
  }

  write32(offset: number, value: number): void {
    this.#chip.write32(offset, value);
    this.#qtest.writel(at.SMMU + offset, value);
  }

  write64(offset: number, value: bigint): void {
    this.#chip.write64(offset, value);
    this.#qtest.writeq(at.SMMU + offset, value);
  }

  /** A descriptor. */
  store64(pa: number, value: bigint): void {
    const hi = Number(value >> 32n) | 0;
    const lo = Number(value & 0xffff_ffffn) | 0;
    this.memory.store64(pa, hi, lo);
    this.#qtest.store64(pa, hi, lo);
  }

  /** A structure. */
  store(pa: number, words: Int32Array): void {
    const bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
    this.memory.writeBytes(pa, bytes);
    this.#qtest.write(pa, bytes);
  }

  /** Appends commands and lets both consume them. */
  commands(...commands: readonly Int32Array[]): void {
    const mask = 2 ** at.COMMAND_QUEUE.log2 - 1;
    for (const words of commands) {
      this.store(at.COMMAND_QUEUE.base + (this.#commandIndex & mask) * 16, words);
      this.#commandIndex = (this.#commandIndex + 1) & (2 * mask + 1);
    }
    this.write32(CMDQ_PROD.offset, this.#commandIndex);
  }

  /** Four bytes between the device and `iova`. */
  dma(iova: bigint, write: boolean): void {
    const hi = Number(BigInt.asUintN(64, iova) >> 32n) | 0;
    const lo = Number(iova & 0xffff_ffffn) | 0;
    this.#reads = [];
    // QEMU knows no unprivileged accesses: quirk "no-el0".
    const access = (write ? Access.WRITE : Access.READ) | Access.PRIV;
    const status = this.#chip.translate(at.EDU_SID, -1, hi, lo, access, this.#out);
    const pa = (this.#out.hi >>> 0) * 2 ** 32 + (this.#out.lo >>> 0);
    const index = this.#nextToken++ % TOKENS;
    const ok = status === TranslationStatus.OK && this.memory.has(pa, 4);
    this.#history.push(...this.#reads);
    const outcome = new Outcome(iova, write, status, pa, this.#reads, [...this.#history], [...this.#configurations]);
    this.#outcomes.push(outcome);
    if (ok && !write) this.#store32(pa, token(index));
    if (write) {
      this.#edu.dma(iova, index * 4, 4, true);
      if (ok) this.memory.store32(pa, token(index));
    } else {
      this.#edu.dma(iova, READ_OFFSET, 4, false);
      // What arrived is copied to memory with the SMMU off.
      this.#qtest.writel(at.SMMU + CR0.offset, OFF);
      this.#edu.dma(BigInt(at.BACK), READ_OFFSET, 4, true);
      this.#qtest.writel(at.SMMU + CR0.offset, ON);
    }
    const answered = status === TranslationStatus.OK;
    outcome.expected = ok ? this.memory.load32(pa) : write || answered ? null : 0;
    if (ok) outcome.got = this.#qtest.later(`readl ${write ? pa : at.BACK}`);
    else if (!write) outcome.got = this.#qtest.later(`readl ${at.BACK}`);
    outcome.modelEvents = this.#modelEvents();
    const events = this.#qtest.later(`readl ${at.SMMU + EVENTQ_PROD.offset}`);
    const record = this.#qtest.later(`b64read ${at.EVENT_QUEUE.base} ${EVENT_BYTES}`, 64);
    outcome.qemuEvents = { count: events, record };
    this.#qtest.writel(at.SMMU + EVENTQ_PROD.offset, 0);
  }

  /** The model's new event records; the queue is emptied. */
  #modelEvents(): Int32Array[] {
    const mask = 2 ** (at.EVENT_QUEUE.log2 + 1) - 1;
    const prod = this.#chip.read32(EVENTQ_PROD.offset) & mask;
    const records: Int32Array[] = [];
    for (; this.#eventIndex !== prod; this.#eventIndex = (this.#eventIndex + 1) & mask) {
      const base = at.EVENT_QUEUE.base + (this.#eventIndex & (mask >>> 1)) * EVENT_BYTES;
      records.push(Int32Array.from({ length: 8 }, (_, i) => this.memory.load32(base + i * 4)));
    }
    if (records.length > 0) this.#chip.write32(EVENTQ_CONS.offset, prod);
    return records;
  }

  #store32(pa: number, value: number): void {
    this.memory.store32(pa, value);
    this.#qtest.writel(pa, value);
  }

  /** Tells what the tables say from now on; `replaces` when nothing cached can be in use any more. */
  configured(configuration: Configuration, replaces: boolean): void {
    if (replaces) this.#configurations = [];
    this.#configurations.push(configuration);
  }

  /** A write with the SMMU off, which GBPA lets pass or aborts. */
  withoutTranslation(abort: boolean, address: bigint): void {
    this.write32(GBPA.offset, (GBPA.UPDATE.lowMask | (abort ? GBPA.ABORT.lowMask : 0)) >>> 0);
    this.write32(CR0.offset, OFF);
    this.dma(address, true);
    this.write32(CR0.offset, ON);
    this.write32(GBPA.offset, GBPA.UPDATE.lowMask >>> 0);
  }

  /** A command that stops the queue; the error is looked at, the command replaced, and the error acknowledged. */
  refusedCommand(words: Int32Array): void {
    const slot = at.COMMAND_QUEUE.base + (this.#commandIndex & (2 ** at.COMMAND_QUEUE.log2 - 1)) * 16;
    this.commands(words);
    this.#look(CMDQ_CONS, GERROR);
    this.store(slot, SYNC);
    this.write32(GERRORN.offset, this.#chip.read32(GERROR.offset));
    this.#look(CMDQ_CONS, GERROR);
  }

  #look(...registers: readonly { readonly name: string; readonly offset: number }[]): void {
    for (const { name, offset } of registers) {
      this.#registers.push({
        name,
        model: this.#chip.read32(offset),
        qemu: this.#qtest.later(`readl ${at.SMMU + offset}`),
      });
    }
  }

  /** Ends a case; the verdict can be read after what was submitted has been collected. */
  finish(): () => Verdict {
    const outcomes = this.#outcomes;
    this.#outcomes = [];
    this.#history = [];
    this.#look(CMDQ_CONS, GERROR);
    const registers = this.#registers;
    this.#registers = [];
    return () => ({
      outcomes,
      registers: registers.map(({ name, model, qemu }) => ({ name, model, qemu: qemu.value })),
    });
  }

  /** Lets QEMU go on with what was queued; the answer is what `collect` takes. */
  submit(): number {
    return this.#qtest.submit();
  }

  /** Waits for what was submitted. @throws QemuDied when QEMU aborted */
  collect(until: number): void {
    this.#qtest.collect(until);
  }
}

function token(index: number): number {
  return (0x5a00_0000 + index * 0x10_0101) >>> 0;
}
