/** What the parts of one chip share: its name, its board, its features and the fault being reported. */
import { type ChipPorts, join64, physical, type TraceInterest } from "@iommukit/core";
import type { Smmuv3Preset } from "../presets.js";
import { Fault } from "./fault.js";
import { Features } from "./features.js";

const LOOKUPS = ["tlb:hit", "tlb:missed", "tlb:filled"] as const;
const CONFIG_LOOKUPS = ["config:hit", "config:missed"] as const;

export class ChipContext {
  readonly features: Features;
  readonly fault = new Fault();
  /** Somebody wants to see the steps of translations, all or of one kind: then none may take a short cut. */
  readonly steps: TraceInterest;
  readonly lookups: TraceInterest;
  readonly configLookups: TraceInterest;
  readonly reads: TraceInterest;

  constructor(
    readonly name: string,
    readonly ports: ChipPorts,
    readonly preset: Smmuv3Preset,
  ) {
    this.features = new Features(preset);
    const { trace } = ports;
    this.steps = trace.interest(...LOOKUPS, ...CONFIG_LOOKUPS, "table:read");
    this.lookups = trace.interest(...LOOKUPS);
    this.configLookups = trace.interest(...CONFIG_LOOKUPS);
    this.reads = trace.interest("table:read");
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
