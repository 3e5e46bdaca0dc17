/** A trace through several backends: read once, in pieces, each piece through one machine after the other. */
import { BackendReplay, type Phase, type PlacedEvent } from "./backend-replay.js";
import type { ReplayCounts } from "./counts.js";
import { Spaces } from "./spaces.js";
import { TraceReader } from "./trace-line.js";

export interface Replay {
  readonly mode: "strict" | "lazy";
  readonly events: number;
  readonly spaces: number;
  readonly ambiguousUnmaps: number;
  readonly unknownUnmaps: number;
  readonly backends: readonly {
    readonly name: string;
    readonly total: ReplayCounts;
    readonly phases: readonly Phase[];
  }[];
}

export class Replayer {
  readonly #reader = new TraceReader();
  readonly #spaces = new Spaces();
  #piece: PlacedEvent[] = [];
  #events = 0;

  private constructor(
    private readonly backends: readonly BackendReplay[],
    private readonly lazy: boolean,
  ) {}

  static async start(names: readonly string[], lazy: boolean): Promise<Replayer> {
    const backends: BackendReplay[] = [];
    for (const name of names) backends.push(await BackendReplay.start(name, lazy));
    return new Replayer(backends, lazy);
  }

  /** Keeps the line's event until `flush`. */
  line(text: string): void {
    const item = this.#reader.read(text);
    if (item === undefined) return;
    if (item.kind === "phase") {
      this.#marks.push({ at: this.#piece.length, name: item.name });
      return;
    }
    this.#events++;
    const space = this.#spaces.of(item);
    if (space === undefined) this.#marks.push({ at: this.#piece.length, name: undefined });
    else this.#piece.push({ event: item, space });
  }

  /** Phases (named) and skipped unmaps (unnamed), before the event of the piece with that index. */
  #marks: { readonly at: number; readonly name: string | undefined }[] = [];

  async flush(): Promise<void> {
    const [piece, marks] = [this.#piece, this.#marks];
    this.#piece = [];
    this.#marks = [];
    for (const backend of this.backends) {
      let from = 0;
      for (const { at, name } of marks) {
        if (at > from) await backend.run(piece.slice(from, at), this.#spaces.count);
        from = at;
        if (name === undefined) backend.skip();
        else backend.phase(name);
      }
      if (piece.length > from) await backend.run(piece.slice(from), this.#spaces.count);
    }
  }

  async finish(): Promise<Replay> {
    await this.flush();
    for (const backend of this.backends) await backend.close();
    return {
      mode: this.lazy ? "lazy" : "strict",
      events: this.#events,
      spaces: this.#spaces.count,
      ambiguousUnmaps: this.#spaces.ambiguous,
      unknownUnmaps: this.#spaces.unknown,
      backends: this.backends.map(({ name, total, phases }) => ({
        name,
        total,
        phases: phases.filter(({ counts }) => counts.maps + counts.unmaps > 0),
      })),
    };
  }
}
