/**
 * The invalidation queue (VT-d 6.5.2): fetches descriptors in both widths, one per step, in order. A wait descriptor stays
 * pending until every device-TLB invalidation before it is complete; nothing behind it is fetched before. An error stops the
 * queue until software clears it.
 */
import {
  type ChipPorts,
  type HardwareUnit,
  hiOf,
  loOf,
  type PrgResponse,
  physical,
  type RegisterFile,
} from "@iommukit/core";
import {
  CONTEXT_CACHE_INVALIDATE as CC,
  DESCRIPTOR_SHIFT,
  DescriptorType,
  INVALIDATION_WAIT as WAIT,
  WIDE_DESCRIPTOR_SHIFT,
} from "../spec/invalidation.js";
import { FSTS, ICS, IQA, IQER, IQH, IQT } from "../spec/registers.js";
import { within } from "./address-bits.js";
import type { Capabilities } from "./capabilities.js";
import { type ConfigLookup, Ttm } from "./config-lookup.js";
import { DescriptorExecution } from "./descriptor-execution.js";
import { DescriptorRules, descriptorTable, QueueError, WIDE_WORDS } from "./descriptor-rules.js";
import { DeviceTlb } from "./device-tlb.js";
import type { EventInterrupt } from "./event-interrupt.js";
import type { FaultRecording } from "./fault-recording.js";
import type { Invalidate } from "./invalidate.js";

export interface QueueParts {
  readonly unit: string;
  readonly caps: Capabilities;
  readonly file: RegisterFile;
  readonly config: ConfigLookup;
  readonly invalidate: Invalidate;
  readonly event: EventInterrupt;
  readonly ports: ChipPorts;
  readonly respond: (response: PrgResponse) => void;
}

/** Memory is fetched 16 bytes at a time. */
const BEAT_WORDS = 4;

export class InvalidationQueue implements HardwareUnit {
  readonly name: string;
  readonly deviceTlb: DeviceTlb;
  /** Set once, after construction: the two refer to each other. */
  faults!: FaultRecording;
  /** GSTS.QIES */
  enabled = false;
  /** A wait descriptor that has been fetched and waits for device-TLB completions. */
  #waiting = false;
  /** A step is under way: what completes inside it does not start another. */
  #stepping = false;
  readonly #descriptor = new Int32Array(WIDE_WORDS);
  readonly #wait = new Int32Array(WAIT.words);
  /** Descriptors consumed since power-on, by type. */
  readonly #consumed = new Float64Array(128);
  readonly #rules: DescriptorRules;
  readonly #execution: DescriptorExecution;

  constructor(private readonly parts: QueueParts) {
    const { unit, caps, ports, invalidate, respond, file } = parts;
    this.name = `${unit}.invalidation-queue`;
    this.deviceTlb = new DeviceTlb(ports, caps.preset.invalidationTimeout, {
      completed: () => this.kick(),
      timedOut: (rid) => this.#timedOut(rid),
      unexpected: (rid) => this.#unexpected(rid),
    });
    this.#rules = new DescriptorRules(caps);
    this.#execution = new DescriptorExecution(invalidate, this.deviceTlb, respond);
    file.onWrite(IQT, () => this.kick());
  }

  kick(): void {
    if (this.enabled && !this.#stepping) this.parts.ports.scheduler.kick(this);
  }

  enable(): void {
    this.enabled = true;
    this.kick();
  }

  disable(): void {
    this.enabled = false;
    this.#waiting = false;
    this.#setHead(0);
  }

  reset(): void {
    this.enabled = false;
    this.#waiting = false;
    this.deviceTlb.reset();
  }

  #setHead(offset: number): void {
    IQH.QH.setPair(this.parts.file.words, IQH.index, 0, offset);
  }

  step(): boolean {
    if (!this.enabled || this.faults.queueStopped) return false;
    this.#stepping = true;
    const more = this.#waiting ? this.#finishWait() : this.#next();
    this.#stepping = false;
    return more;
  }

  /** Fetches, checks and executes the descriptor at the head. */
  #next(): boolean {
    const { file, ports, config } = this.parts;
    const { words } = file;
    const head = IQH.QH.get(words, IQH.index);
    const tail = IQT.QT.get(words, IQT.index);
    if (head === tail) return false;
    const shift = IQA.DW.get(words, IQA.index) === 1 ? WIDE_DESCRIPTOR_SHIFT : DESCRIPTOR_SHIFT;
    const size = 4096 << IQA.QS.get(words, IQA.index);
    const misconfigured = this.#configurationError(tail, size, shift);
    if (misconfigured !== QueueError.NONE) return this.#stop(misconfigured);
    if (!this.#fetch(physical(IQA.IQA.hi(words, IQA.index), IQA.IQA.lo(words, IQA.index)) + head, shift))
      return this.#stop(QueueError.FETCH);
    const d = this.#descriptor;
    const type = CC.TYPE.get(d) | (CC.TYPE_HI.get(d) << 4);
    const refused = this.#rules.check(type, d, config.ttm === Ttm.LEGACY);
    if (refused !== QueueError.NONE) return this.#stop(refused);
    const deviceTlb = type === DescriptorType.DEVICE_TLB || type === DescriptorType.PASID_DEVICE_TLB;
    if (deviceTlb && !this.deviceTlb.hasFreeTag) return false;
    this.#setHead((head + (1 << shift)) % size);
    this.#consumed[type]++;
    if (ports.trace.enabled) {
      const command = descriptorTable(type)?.name ?? "";
      ports.trace.emit("command:consumed", {
        unit: this.parts.unit,
        command,
        words: unsigned(d, 1 << (shift - 2)),
      });
    }
    if (type === DescriptorType.WAIT) {
      for (let word = 0; word < WAIT.words; word++) this.#wait[word] = d[word];
      this.#waiting = true;
    } else {
      this.#execution.execute(type, d);
    }
    return true;
  }

  /** Descriptors consumed since power-on, by name. */
  consumed(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (let type = 0; type < this.#consumed.length; type++)
      if (this.#consumed[type] > 0) counts[descriptorTable(type)?.name ?? ""] = this.#consumed[type];
    return counts;
  }

  #configurationError(tail: number, size: number, shift: number): number {
    const { caps, config } = this.parts;
    const wide = shift === WIDE_DESCRIPTOR_SHIFT;
    if (config.badMode) return QueueError.TTM;
    if (wide ? !caps.ecap.SMTS && !caps.ecap.ADMS : config.ttm !== Ttm.LEGACY) return QueueError.WIDTH;
    if (wide && (tail & 0x10) !== 0) return QueueError.TAIL_ALIGNMENT;
    return tail >= size ? QueueError.TAIL_RANGE : QueueError.NONE;
  }

  #fetch(pa: number, shift: number): boolean {
    const { memory } = this.parts.ports;
    const count = 1 << (shift - 2);
    this.#descriptor.fill(0, count);
    // Software fills a slot before the tail passes it: no beat of a descriptor can be older than another.
    for (let beat = 0; beat < count; beat += BEAT_WORDS) {
      const view = memory.view(hiOf(pa), loOf(pa) + beat * 4, BEAT_WORDS);
      if (view === null) return false;
      for (let i = 0; i < BEAT_WORDS; i++) this.#descriptor[beat + i] = view[memory.viewAt + i];
    }
    return true;
  }

  /** Status write, then interrupt (6.5.2.9). Page requests are in memory as soon as they are received: PD finds nothing to drain. */
  #finishWait(): boolean {
    if (this.deviceTlb.outstanding > 0) return false;
    const { ports, file, event, caps } = this.parts;
    const d = this.#wait;
    this.#waiting = false;
    if (WAIT.SW.get(d) === 1)
      ports.memory.store32(physical(within(WAIT.SADDR.hi(d), caps.haw), WAIT.SADDR.lo(d)), WAIT.SDATA.lo(d));
    if (WAIT.IF.get(d) === 1) {
      const pending = ICS.IWC.get(file.words, ICS.index) === 1;
      ICS.IWC.setPair(file.words, ICS.index, 0, 1);
      if (!pending) event.raise();
    }
    return true;
  }

  /** IQE: the head stays at the descriptor. */
  #stop(info: number): boolean {
    const { file, ports, unit } = this.parts;
    IQER.IQEI.setPair(file.words, IQER.index, 0, info);
    if (ports.trace.enabled) {
      const reason = `IQEI ${IQER.IQEI.nameOf(info)}`;
      ports.trace.emit("command:refused", {
        unit,
        command: "descriptor",
        words: unsigned(this.#descriptor, this.#descriptor.length),
        reason,
      });
    }
    this.faults.queueError(FSTS.IQE.lowMask);
    return false;
  }

  /** ITE: a pending wait is aborted, and nothing is fetched until software clears it. */
  #timedOut(rid: number): void {
    const { words } = this.parts.file;
    if (FSTS.ITE.get(words, FSTS.index) === 0) IQER.ITESID.setPair(words, IQER.index, 0, rid);
    this.#waiting = false;
    this.faults.queueError(FSTS.ITE.lowMask);
  }

  #unexpected(rid: number): void {
    const { words } = this.parts.file;
    if (FSTS.ICE.get(words, FSTS.index) === 0) IQER.ICESID.setPair(words, IQER.index, 0, rid);
    this.faults.queueError(FSTS.ICE.lowMask);
  }
}

function unsigned(words: Int32Array, count: number): number[] {
  const out: number[] = [];
  for (let i = 0; i < count; i++) out.push(words[i] >>> 0);
  return out;
}
