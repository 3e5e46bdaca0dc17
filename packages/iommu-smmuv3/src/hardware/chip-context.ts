/** What the parts of one chip share: its name, its board, its features and the fault being reported. */
import { Access, type ChipPorts, join64, physical, type TraceChannel, type TraceInterest } from "@iommukit/core";
import type { Smmuv3Preset } from "../presets.js";
import { Fault } from "./fault.js";
import { Features } from "./features.js";

/** Set in every transaction's Access bits, so that a mask of -1 refuses them all. */
export const ANY_ACCESS = 1 << 30;
const PLAIN = ~(Access.READ | Access.WRITE | ANY_ACCESS);
const ALL = -1;

export class ChipContext {
  readonly features: Features;
  readonly fault = new Fault();
  /** Somebody wants to see the steps of translations of one kind: then none may take a short cut. */
  readonly lookups: TraceInterest;
  readonly configLookups: TraceInterest;
  readonly reads: TraceInterest;
  readonly ends: TraceChannel<"translate:completed">;
  /** Access bits of transactions that may not take the short cut, of which the trace sees the end at most. */
  refused = ALL;
  /** 1 while somebody wants to see ends. */
  ended = 0;
  /** CR0.SMMUEN */
  #enabled = false;

  constructor(
    readonly name: string,
    readonly ports: ChipPorts,
    readonly preset: Smmuv3Preset,
  ) {
    this.features = new Features(preset);
    const { trace } = ports;
    const update = () => this.#update();
    this.lookups = trace.interest(["tlb:hit", "tlb:missed", "tlb:filled"], update);
    this.configLookups = trace.interest(["config:hit", "config:missed"], update);
    this.reads = trace.interest(["table:read"], update);
    this.ends = trace.channel("translate:completed", update);
  }

  /** Some transactions may take the short cut. */
  get mayShorten(): boolean {
    return this.refused !== ALL;
  }

  get enabled(): boolean {
    return this.#enabled;
  }

  set enabled(enabled: boolean) {
    this.#enabled = enabled;
    this.#update();
  }

  #update(): void {
    const steps = this.lookups.wanted || this.configLookups.wanted || this.reads.wanted;
    this.refused = !this.#enabled || steps ? ALL : PLAIN;
    this.ended = this.ends.wanted ? 1 : 0;
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
