/**
 * One run, recorded for people: what software does and what hardware and devices do, in the order in which it happened, and how
 * everything stood when a rule was broken. Plain data; `renderTimeline` makes text of it.
 */
import type { Platform, TraceRecord } from "@iommukit/core";
import { describeFinding, type Finding } from "../finding.js";
import { ACTORS } from "../run.js";
import { type Actor, isThread } from "../schedule/actor.js";
import type { ExploringScheduler } from "../schedule/exploring-scheduler.js";
import { isHardware, isSilent, sentences } from "./sentences.js";
import { type MachineState, StateWatch } from "./state.js";

/** One step of one actor. */
export interface TimelineLine {
  /** "software": threads of the kernel and of programs; "hardware": units of the IOMMU, and devices; "rule": a rule is broken here. */
  readonly side: "software" | "hardware" | "rule";
  /** "actor": from here on this one runs; "choice": what the schedule decided; "event": what happened. */
  readonly kind: "actor" | "choice" | "event";
  readonly text: string;
}

/** What `renderTimeline` takes. */
export interface TimelineReport {
  readonly lines: readonly TimelineLine[];
  readonly state: MachineState;
}

/** What ends a run before its actors have ended. */
const END: Readonly<Record<string, string>> = {
  deadlock: "nothing could go on",
  livelock: "no end was in sight",
  throw: "it threw",
};

const TIMES = / \(\d+ times\)$/;

/** Listens to a run's trace. */
export class Timeline {
  #lines: TimelineLine[] = [];
  #state: MachineState | undefined;
  /** What is wrong with the event that is about to be recorded: checkers hear of it first. */
  #broken: Finding[] = [];
  /** The actors have ended; what the scenario gives back afterwards is not shown. */
  #over = false;
  #actor = "";
  #choices = 0;
  /** How often the last event has happened. */
  #times = 1;
  readonly #watch: StateWatch;
  readonly #say: (record: TraceRecord) => string;
  /** Ends the recording. */
  readonly stop: () => void;

  constructor(
    platform: Platform,
    private readonly scheduler: ExploringScheduler,
  ) {
    this.#watch = new StateWatch(platform, scheduler);
    this.#say = sentences(platform);
    const { onSwitch, onPark } = scheduler;
    scheduler.onPark = (thread, reason) => {
      onPark?.(thread, reason);
      this.#parked(reason);
    };
    scheduler.onSwitch = (actor) => {
      onSwitch?.(actor);
      this.#switchTo(actor);
    };
    const choose = scheduler.choose.bind(scheduler);
    scheduler.choose = (count, what) => {
      const taken = choose(count, what);
      this.#chose(taken, what);
      return taken;
    };
    const stop = platform.trace.subscribe((record) => this.#take(record));
    this.stop = () => {
      stop();
      scheduler.onSwitch = onSwitch;
      scheduler.onPark = onPark;
      scheduler.choose = choose;
    };
  }

  /** A rule is broken now. Of several the state at the first one is kept. */
  broken(finding: Finding): void {
    if (this.scheduler.preemptive) this.#broken.push(finding);
  }

  /** The event that broke a rule has been recorded. */
  #note(): void {
    for (const finding of this.#broken.splice(0)) {
      this.#lines.push({ side: "rule", kind: "event", text: describeFinding(finding) });
      this.#state ??= this.#watch.now(`${finding.rule} was broken`);
    }
  }

  /** @param findings of the whole run: the first says why it came to an end when it did not end by itself */
  report(findings: readonly Finding[]): TimelineReport {
    this.#note();
    const when = END[findings[0]?.rule] ?? "the actors had ended";
    return { lines: this.#lines, state: this.#state ?? this.#watch.now(when) };
  }

  /** @returns false while nothing is explored */
  #exploring(): boolean {
    const exploring = this.scheduler.preemptive;
    if (exploring && this.#over) this.#again();
    if (!exploring && this.#lines.length > 0 && !this.#over) {
      this.#over = true;
      this.#state ??= this.#watch.now("the actors had ended");
    }
    return exploring;
  }

  /** The same once more, to see whether it leaks: the last time is what is shown. */
  #again(): void {
    this.#lines = [];
    this.#state = undefined;
    this.#over = false;
    this.#actor = "";
    this.#choices = 0;
  }

  #switchTo(actor: Actor): void {
    if (!this.#exploring()) return;
    const why = this.#whyNow();
    if (actor.name === this.#actor && why === "") return;
    this.#actor = actor.name;
    const side = isThread(actor) ? "software" : "hardware";
    this.#lines.push({ side, kind: "actor", text: `${actor.name}${why}` });
  }

  /** What the schedule has decided since the last switch. When it takes somebody away and nobody else is ready, time passes first. */
  #whyNow(): string {
    const { counts, taken } = this.scheduler.decisions;
    let why = "";
    for (let at = this.#choices; at < counts.length; at++) {
      if (taken[at] === 0) continue;
      const away = taken[at] === counts[at] - 1 ? ", whoever was next is away for a while" : "";
      why += `  ← choice ${at}:${taken[at]}${away}`;
    }
    this.#choices = counts.length;
    return why;
  }

  #chose(taken: number, what: string): void {
    if (!this.scheduler.preemptive) return;
    const { counts } = this.scheduler.decisions;
    if (taken === 0) return;
    this.#choices = counts.length;
    const side = this.scheduler.current === null ? "hardware" : "software";
    this.#lines.push({ side, kind: "choice", text: `${what}  ← choice ${counts.length - 1}:${taken}` });
  }

  /** Of locks the trace tells. */
  #parked(reason: string): void {
    if (!this.#exploring() || reason.startsWith("lock ") || reason === ACTORS) return;
    this.#event("software", `waits for ${reason}`);
  }

  /** What happens several times in a row is counted. */
  #event(side: TimelineLine["side"], text: string): void {
    const last = this.#lines.at(-1);
    this.#times = last?.side === side && last.text.replace(TIMES, "") === text ? this.#times + 1 : 1;
    if (last && this.#times > 1)
      this.#lines[this.#lines.length - 1] = { ...last, text: `${text} (${this.#times} times)` };
    else this.#lines.push({ side, kind: "event", text });
  }

  #take(record: TraceRecord): void {
    const exploring = this.#exploring();
    this.#watch.take(record, exploring);
    if (!exploring && record.name === "table:written") this.#watch.stored(record);
    if (exploring && !isSilent(record)) {
      const software = this.scheduler.current !== null && !isHardware(record);
      this.#add(software ? "software" : "hardware", record);
    }
    this.#note();
  }

  #add(side: TimelineLine["side"], record: TraceRecord): void {
    const last = this.#lines.at(-1);
    // Taken and given back with nothing in between.
    if (record.name === "lock:released" && last?.text === `takes ${record.lock}`)
      this.#lines[this.#lines.length - 1] = { ...last, text: `takes ${record.lock}, and gives it back` };
    else if (record.name === "table:written") this.#store(side, record);
    else this.#event(side, this.#say(record));
  }

  /** Stores to one entry, one after the other, are one line. */
  #store(side: TimelineLine["side"], record: Extract<TraceRecord, { name: "table:written" }>): void {
    const stored = this.#watch.stored(record);
    const { table, address, value } = record;
    if (stored === undefined) {
      this.#event(side, this.#say(record));
      return;
    }
    const { at, changed } = stored;
    const entry = `${table} 0x${at.toString(16)}`;
    const fields = changed.length === 0 ? "" : ` (${changed.join(" ")})`;
    const store = `+0x${(address - at).toString(16).padStart(2, "0")} := 0x${value.toString(16)}${fields}`;
    const last = this.#lines.at(-1);
    if (last?.kind === "event" && last.text.startsWith(`${entry} `))
      this.#lines[this.#lines.length - 1] = { ...last, text: `${last.text}, ${store}` };
    else this.#lines.push({ side, kind: "event", text: `${entry} ${store}` });
  }
}
