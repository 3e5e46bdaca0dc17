/** A trace through several machines: read once, in pieces, each piece through one machine after the other. */
import type { Configuration } from "./configuration.js";
import { Fragmentation } from "./fragmentation.js";
import { ReplayMachine, type Step } from "./machine.js";
import { type Replay, report } from "./report.js";
import { Spaces } from "./spaces.js";
import { START, TEXT, type Timing } from "./timing.js";
import { type TraceItem, TraceReader } from "./trace-line.js";

/** Sees what is replayed, piece by piece, after the machines have. */
export interface ReplayWatcher {
  piece(steps: readonly Step[], machines: readonly ReplayMachine[], spaces: Spaces): void;
}

export class Replayer {
  readonly #reader = new TraceReader();
  readonly #spaces = new Spaces();
  readonly #fragmentation = new Fragmentation();
  #piece: Step[] = [];
  #events = 0;

  private constructor(
    private readonly machines: readonly ReplayMachine[],
    private readonly watcher: ReplayWatcher | undefined,
    private readonly timing: Timing | undefined,
  ) {
    this.#fragmentation.enter();
  }

  static async start(
    configurations: readonly Configuration[],
    watcher?: ReplayWatcher,
    timing?: Timing,
  ): Promise<Replayer> {
    const machines: ReplayMachine[] = [];
    for (const configuration of configurations) machines.push(await ReplayMachine.start(configuration));
    timing?.lap(START);
    return new Replayer(machines, watcher, timing);
  }

  /** @param bytes whole lines */
  async read(bytes: Buffer): Promise<void> {
    this.#reader.read(bytes, (item) => this.#take(item));
    const piece = this.#piece;
    if (piece.length === 0) return;
    this.#piece = [];
    this.timing?.lap(TEXT);
    for (const machine of this.machines) {
      await machine.run(piece);
      this.timing?.lap(machine.configuration.label);
    }
    this.watcher?.piece(piece, this.machines, this.#spaces);
  }

  #take(item: TraceItem): void {
    switch (item.kind) {
      case "phase":
        this.#fragmentation.enter();
        this.#piece.push({ phase: item.name, time: item.time });
        break;
      case "attach":
      case "dma":
        this.#spaces.hears(item);
        break;
      default: {
        this.#events++;
        const space = this.#spaces.of(item);
        if (space !== undefined) this.#fragmentation.note(space, this.#spaces.layout(space));
        this.#piece.push({ event: item, space });
      }
    }
  }

  finish(): Replay {
    for (const machine of this.machines) machine.close();
    return report(this.#events, this.#reader.malformed, this.machines, this.#spaces, this.#fragmentation);
  }
}
