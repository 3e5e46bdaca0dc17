/**
 * The command queue's consumer: fetches, executes, halts on errors until software acknowledges them, and lets CMD_SYNC wait
 * for what came before. A unit of hardware: the scheduler decides when it takes its steps. IHI 0070 chapter 4, 7.1.
 */
import { type HardwareUnit, PrgResponseCode, physical, type RegisterFile } from "@iommukit/core";
import * as c from "../spec/commands.js";
import * as r from "../spec/registers.js";
import { highMaskFrom, lowMaskFrom } from "./address-bits.js";
import type { AtcInvalidation } from "./atc-invalidation.js";
import type { ChipContext } from "./chip-context.js";
import type { ConfigLookup } from "./config-lookup.js";
import { STALL_MODEL } from "./features.js";
import type { Interrupts } from "./interrupts.js";
import type { Invalidation } from "./invalidation.js";
import type { PageRequests } from "./page-requests.js";
import type { Stalls } from "./stall.js";

const { OPCODE } = c;
const CERROR = { NONE: 0, ILL: 1, ABT: 2, ATC_INV_SYNC: 3 } as const;
/** The command cannot be finished yet: it is taken up again when something completes. */
const WAIT = -1;
const ALL = 0xffff_ffff;
const RESPONSES: readonly number[] = [
  PrgResponseCode.RESPONSE_FAILURE,
  PrgResponseCode.INVALID_REQUEST,
  PrgResponseCode.SUCCESS,
];

export class CommandQueue implements HardwareUnit {
  readonly name: string;
  readonly #command = new Int32Array(4);
  /** Commands consumed since power-on, by opcode. */
  readonly #consumed = new Float64Array(256);
  #busy = false;

  constructor(
    private readonly chip: ChipContext,
    private readonly registers: RegisterFile,
    private readonly interrupts: Interrupts,
    private readonly config: ConfigLookup,
    private readonly tlb: Invalidation,
    private readonly atc: AtcInvalidation,
    private readonly pages: PageRequests,
    private readonly stalls: Stalls,
  ) {
    this.name = `${chip.name}.cmdq`;
  }

  get #log2size(): number {
    return Math.min(r.CMDQ_BASE.LOG2SIZE.get(this.registers.words, r.CMDQ_BASE.index), this.chip.features.cmdqs);
  }

  /** Consumes one command; false when the queue is empty, disabled, halted, or waits. A kick from inside a step is part of it. */
  step(): boolean {
    if (this.#busy) return false;
    this.#busy = true;
    const more = this.#consume();
    this.#busy = false;
    return more;
  }

  #consume(): boolean {
    const { words } = this.registers;
    if ((words[r.CR0.index] & r.CR0.CMDQEN.lowMask) === 0) return false;
    if (this.interrupts.active(r.GERROR.CMDQ_ERR.lowMask)) return false;
    const size = this.#log2size;
    const mask = (2 << size) - 1;
    const cons = words[r.CMDQ_CONS.index] & mask;
    const distance = (words[r.CMDQ_PROD.index] ^ cons) & mask;
    if (distance === 0) return false;
    const error = this.#fetch(cons & (mask >>> 1), size) ? this.#execute() : CERROR.ABT;
    if (error === WAIT) return false;
    if (error !== CERROR.NONE) {
      this.#halt(error);
      // Software that answers its interrupt at once has acknowledged the error already.
      return !this.interrupts.active(r.GERROR.CMDQ_ERR.lowMask);
    }
    r.CMDQ_CONS.RD.setPair(words, r.CMDQ_CONS.index, 0, (cons + 1) & mask);
    this.#consumed[c.COMMAND.Opcode.get(this.#command)]++;
    if (this.chip.ports.trace.enabled) this.#traceConsumed();
    if (this.chip.features.sev && distance === 1 << size) this.interrupts.pulse("sev");
    if (c.COMMAND.Opcode.get(this.#command) === OPCODE.SYNC) this.#signal();
    return true;
  }

  #fetch(index: number, size: number): boolean {
    const { registers, chip } = this;
    const align = Math.max(5, size + 4);
    const hi = r.CMDQ_BASE.ADDR.hi(registers.words, r.CMDQ_BASE.index) & highMaskFrom(align);
    const lo = (r.CMDQ_BASE.ADDR.lo(registers.words, r.CMDQ_BASE.index) & lowMaskFrom(align)) | (index << 4);
    const { memory } = chip.ports;
    const words = memory.view(hi & ~highMaskFrom(chip.features.oasBits), lo, 4);
    if (words === null) return false;
    const at = memory.viewAt;
    for (let i = 0; i < 4; i++) this.#command[i] = words[at + i];
    return true;
  }

  /** 7.1: the index stays, the reason is visible before the error is. */
  #halt(error: number): void {
    const { words } = this.registers;
    r.CMDQ_CONS.ERR.setPair(words, r.CMDQ_CONS.index, 0, error);
    const { trace } = this.chip.ports;
    if (trace.enabled) {
      const reason = r.CMDQ_CONS.ERR.nameOf(error) ?? "";
      trace.emit("command:refused", {
        unit: this.chip.name,
        command: this.#commandName(),
        words: this.#words(),
        reason,
      });
    }
    this.interrupts.activate(r.GERROR.CMDQ_ERR.lowMask);
  }

  #execute(): number {
    const w = this.#command;
    const { features } = this.chip;
    const opcode = c.COMMAND.Opcode.get(w);
    switch (opcode) {
      case OPCODE.PREFETCH_CONFIG:
      case OPCODE.PREFETCH_ADDR:
        // A hint; nothing is fetched ahead.
        return secure(w) ? CERROR.ILL : CERROR.NONE;
      case OPCODE.CFGI_STE:
      case OPCODE.CFGI_STE_RANGE:
      case OPCODE.CFGI_CD:
      case OPCODE.CFGI_CD_ALL:
        return this.#invalidateConfig(opcode);
      case OPCODE.ATC_INV:
        return this.#invalidateAtc();
      case OPCODE.PRI_RESP: {
        const response = RESPONSES[c.CMD_PRI_RESP.Resp.get(w)];
        if (!features.pri || secure(w) || response === undefined) return CERROR.ILL;
        if (!this.#translating) return CERROR.NONE;
        const pasid = c.CMD_PRI_RESP.SSV.get(w) === 1 && features.ssidSize > 0 ? c.CMD_PRI_RESP.SubstreamID.get(w) : -1;
        this.pages.respond(c.CMD_PRI_RESP.StreamID.get(w), pasid, c.CMD_PRI_RESP.PRGIndex.get(w), response);
        return CERROR.NONE;
      }
      case OPCODE.RESUME: {
        if (features.stallModel === STALL_MODEL.terminate || secure(w)) return CERROR.ILL;
        const abort = features.termModel || c.CMD_RESUME.Ab.get(w) === 1;
        const action = c.CMD_RESUME.Ac.get(w) === 1 ? "retry" : abort ? "abort" : "terminate";
        this.stalls.resume(c.CMD_RESUME.StreamID.get(w), c.CMD_RESUME.STAG.get(w), action);
        return CERROR.NONE;
      }
      case OPCODE.STALL_TERM:
        if (features.stallModel === STALL_MODEL.terminate || secure(w)) return CERROR.ILL;
        this.stalls.terminate(c.CMD_STALL_TERM.StreamID.get(w));
        return CERROR.NONE;
      case OPCODE.SYNC:
        return this.#sync();
      default: {
        const layout = c.COMMANDS.get(opcode);
        return layout && this.tlb.command(opcode, w, layout) ? CERROR.NONE : CERROR.ILL;
      }
    }
  }

  get #translating(): boolean {
    return (this.registers.words[r.CR0.index] & r.CR0.SMMUEN.lowMask) !== 0;
  }

  /** 4.3. */
  #invalidateConfig(opcode: number): number {
    const w = this.#command;
    if (secure(w)) return CERROR.ILL;
    const sid = c.CMD_CFGI_STE.StreamID.get(w);
    let entries = 0;
    if (opcode === OPCODE.CFGI_STE) {
      entries = this.config.invalidateStreams(sid, sid, c.CMD_CFGI_STE.Leaf.get(w) === 1);
    } else if (opcode === OPCODE.CFGI_STE_RANGE) {
      const range = c.CMD_CFGI_STE_RANGE.Range.get(w);
      const span = 2 ** (range + 1);
      const first = Math.floor(sid / span) * span;
      entries =
        range === c.CFGI_ALL_RANGE
          ? this.config.clear()
          : this.config.invalidateStreams(first, first + span - 1, false);
    } else {
      if (!this.chip.features.s1p) return CERROR.ILL;
      const all = opcode === OPCODE.CFGI_CD_ALL;
      const ssid = c.CMD_CFGI_CD.SubstreamID.get(w);
      const leaf = !all && c.CMD_CFGI_CD.Leaf.get(w) === 1;
      entries = this.config.invalidateContexts(sid, all ? 0 : ssid, all ? ALL : ssid, leaf);
    }
    const { trace } = this.chip.ports;
    if (trace.enabled) {
      trace.emit("cache:invalidated", { unit: this.chip.name, cache: "config", scope: this.#commandName(), entries });
    }
    return CERROR.NONE;
  }

  /** 4.5.1. */
  #invalidateAtc(): number {
    const w = this.#command;
    const { features } = this.chip;
    const size = c.CMD_ATC_INV.Size.get(w);
    if (!features.ats || secure(w) || size > c.ATC_INV_ALL) return CERROR.ILL;
    if (!this.#translating) return CERROR.NONE;
    const sid = c.CMD_ATC_INV.StreamID.get(w);
    const tagged = c.CMD_ATC_INV.SSV.get(w) === 1 && features.ssidSize > 0;
    const shift = size + 12;
    const hi = c.CMD_ATC_INV.Address.hi(w) & highMaskFrom(shift);
    const lo = c.CMD_ATC_INV.Address.lo(w) & lowMaskFrom(shift);
    const pasid = tagged ? c.CMD_ATC_INV.SubstreamID.get(w) : -1;
    const global = tagged && c.CMD_ATC_INV.Global.get(w) === 1;
    return this.atc.send(sid, pasid, hi, lo, shift, global) ? CERROR.NONE : WAIT;
  }

  /** 4.7.3: complete when everything before it is. */
  #sync(): number {
    if (c.CMD_SYNC.CS.get(this.#command) === 3) return CERROR.ILL;
    if (this.atc.outstanding > 0) return WAIT;
    if (!this.atc.failed) return CERROR.NONE;
    this.atc.failed = false;
    return CERROR.ATC_INV_SYNC;
  }

  /** The completion signal, after the consumption can be seen. */
  #signal(): void {
    const w = this.#command;
    const cs = c.CMD_SYNC.CS.get(w);
    if (cs === c.SYNC_CS.sev && this.chip.features.sev) this.interrupts.pulse("sev");
    if (cs !== c.SYNC_CS.irq) return;
    this.interrupts.pulse("cmd-sync");
    const address = physical(c.CMD_SYNC.MSIAddress.hi(w), c.CMD_SYNC.MSIAddress.lo(w));
    if (!this.chip.features.msi || address === 0) return;
    if (!this.interrupts.message(address, c.CMD_SYNC.MSIData.get(w))) {
      this.interrupts.activate(r.GERROR.MSI_CMDQ_ABT_ERR.lowMask);
    }
  }

  /** Commands consumed since power-on, by name. */
  consumed(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (let opcode = 0; opcode < this.#consumed.length; opcode++)
      if (this.#consumed[opcode] > 0) counts[nameOf(opcode)] = this.#consumed[opcode];
    return counts;
  }

  #commandName(): string {
    return nameOf(c.COMMAND.Opcode.get(this.#command));
  }

  #words(): number[] {
    const [a, b, c, d] = this.#command;
    return [a >>> 0, b >>> 0, c >>> 0, d >>> 0];
  }

  #traceConsumed(): void {
    const { name, ports } = this.chip;
    ports.trace.emit("command:consumed", { unit: name, command: this.#commandName(), words: this.#words() });
  }
}

function nameOf(opcode: number): string {
  return c.COMMANDS.get(opcode)?.name ?? `0x${opcode.toString(16)}`;
}

/** SSec: Secure streams cannot be named on a Non-secure queue. */
function secure(w: Int32Array): boolean {
  return (w[0] & c.COMMAND.SSec.lowMask) !== 0;
}
