/** What the parts of one chip share: its name, its board, its features and the fault being reported. */
import { type ChipPorts, join64, physical, type TraceInterest } from "@iommukit/core";
import type { Smmuv3Preset } from "../presets.js";
import { Fault } from "./fault.js";
import { Features } from "./features.js";

/** QUICK: the common case takes a short cut, of which the trace sees the end at most. */
export const WAY = { WHOLE: 0, QUICK: 1, QUICK_WITH_END: 2 } as const;

export class ChipContext {
  readonly features: Features;
  readonly fault = new Fault();
  /** Somebody wants to see the steps of translations of one kind: then none may take a short cut. */
  readonly lookups: TraceInterest;
  readonly configLookups: TraceInterest;
  readonly reads: TraceInterest;
  readonly ends: TraceInterest;
  /** How translations may go. */
  way: number = WAY.WHOLE;
  /** CR0.SMMUEN */
  #enabled = false;

  constructor(
    readonly name: string,
    readonly ports: ChipPorts,
    readonly preset: Smmuv3Preset,
  ) {
    this.features = new Features(preset);
    const { trace } = ports;
    const update = () => this.#chooseWay();
    this.lookups = trace.interest(["tlb:hit", "tlb:missed", "tlb:filled"], update);
    this.configLookups = trace.interest(["config:hit", "config:missed"], update);
    this.reads = trace.interest(["table:read"], update);
    this.ends = trace.interest(["translate:completed"], update);
  }

  get enabled(): boolean {
    return this.#enabled;
  }

  set enabled(enabled: boolean) {
    this.#enabled = enabled;
    this.#chooseWay();
  }

  #chooseWay(): void {
    const steps = this.lookups.wanted || this.configLookups.wanted || this.reads.wanted;
    if (!this.#enabled || steps) this.way = WAY.WHOLE;
    else this.way = this.ends.wanted ? WAY.QUICK_WITH_END : WAY.QUICK;
  }

  /** A table entry was fetched; call only while `reads` are wanted. */
  tableRead(table: string, index: number, hi: number, lo: number, words: Int32Array, at: number): void {
    this.ports.trace.emit("table:read", {
      unit: this.name,
      table,
      index,
      address: physical(hi, lo),
      value: join64(words[at + 1], words[at]),
    });
  }
}
