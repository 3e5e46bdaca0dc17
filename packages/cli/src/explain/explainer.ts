/** Lines in, records out: each line goes to the first recogniser that knows it. State is bounded by one record per kind. */
import { AmdRecogniser } from "./kinds/amd.js";
import { DmarRecogniser } from "./kinds/dmar.js";
import { DmarDumpRecogniser } from "./kinds/dmar-dump.js";
import { DmarTablesRecogniser } from "./kinds/dmar-tables.js";
import { LspciRecogniser } from "./kinds/lspci.js";
import { QueueErrorRecogniser } from "./kinds/queue-errors.js";
import { RegisterRecogniser } from "./kinds/registers.js";
import { SmmuErrorRecogniser } from "./kinds/smmu-errors.js";
import { SmmuEventRecogniser } from "./kinds/smmu-event.js";
import { Smmuv2FaultRecogniser } from "./kinds/smmuv2-fault.js";
import { VfioIoctlRecogniser } from "./kinds/vfio-ioctl.js";
import { VtdDebugfsRecogniser } from "./kinds/vtd-debugfs.js";
import { WordsRecogniser } from "./kinds/words.js";
import { XenRecogniser } from "./kinds/xen.js";
import type { Emit, Recogniser } from "./recogniser.js";
import type { NamedTable } from "./tables.js";

/** Longer lines are no line of any tool: not looked at, so that a binary file costs nothing. */
const LONGEST = 4096;

export class Explainer {
  readonly #recognisers: readonly Recogniser[];
  #number = 0;
  #taken = 0;

  /** @param as decode bare words as this table */
  constructor(
    private readonly emit: Emit,
    as?: NamedTable,
  ) {
    this.#recognisers = [
      new DmarRecogniser(),
      new SmmuErrorRecogniser(),
      new SmmuEventRecogniser(),
      new Smmuv2FaultRecogniser(),
      new QueueErrorRecogniser(),
      new AmdRecogniser(),
      new XenRecogniser(),
      new DmarDumpRecogniser(),
      new DmarTablesRecogniser(),
      new VtdDebugfsRecogniser(),
      new RegisterRecogniser(),
      new VfioIoctlRecogniser(),
      new LspciRecogniser(),
      new WordsRecogniser(as),
    ];
  }

  get lines(): number {
    return this.#number;
  }

  /** Lines that some recogniser took. */
  get taken(): number {
    return this.#taken;
  }

  line(text: string): boolean {
    this.#number++;
    if (text.length > LONGEST || text.length < 6) return false;
    const line = { text, number: this.#number };
    for (const recogniser of this.#recognisers) {
      if (!recogniser.take(line, this.emit)) continue;
      this.#taken++;
      return true;
    }
    return false;
  }

  end(): void {
    for (const recogniser of this.#recognisers) recogniser.end?.(this.emit);
  }
}
