/** What the parts of one chip share: its name, its board, its features and the fault being reported. */
import type { ChipPorts } from "@iommukit/core";
import type { Smmuv3Preset } from "../presets.js";
import { Fault } from "./fault.js";
import { Features } from "./features.js";

export class ChipContext {
  readonly features: Features;
  readonly fault = new Fault();

  constructor(
    readonly name: string,
    readonly ports: ChipPorts,
    readonly preset: Smmuv3Preset,
  ) {
    this.features = new Features(preset);
  }

  /** A table entry was fetched; call only while the trace is enabled. */
  tableRead(table: string, index: number, hi: number, lo: number, words: Int32Array, at: number): void {
    this.ports.trace.emit("table:read", {
      unit: this.name,
      table,
      index,
      address: (hi >>> 0) * 0x1_0000_0000 + (lo >>> 0),
      value: (BigInt(words[at + 1] >>> 0) << 32n) | BigInt(words[at] >>> 0),
    });
  }
}
