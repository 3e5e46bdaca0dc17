/**
 * One run as people read it: software on the left, hardware and devices on the right, a line for each event, a rule where
 * another actor goes on. Below, how it stood at the end: who waits for what and holds which locks, the table words written last, and
 * what the caches were filled with.
 */
import type { Platform, TraceRecord } from "@iommukit/core";
import { type Actor, isThread } from "./schedule/actor.js";
import type { ExploringScheduler } from "./schedule/exploring-scheduler.js";

const LEFT = 64;
/** Table words, cache entries that are shown of the last ones. */
const LAST = 8;
/** Said elsewhere, or too fine to read. */
const SILENT: ReadonlySet<string> = new Set(["config:hit", "page:allocated", "lock:released", "domain:compared"]);

interface Line {
  readonly software: boolean;
  readonly text: string;
}

export class Timeline {
  readonly #lines: Line[] = [];
  readonly #held = new Map<string, string[]>();
  readonly #written = new Map<number, string>();
  readonly #cached: string[] = [];
  #actor = "";
  #choices = 0;
  /** Ends the recording. */
  readonly stop: () => void;

  constructor(
    platform: Platform,
    private readonly scheduler: ExploringScheduler,
  ) {
    const { onSwitch } = scheduler;
    scheduler.onSwitch = (actor) => {
      onSwitch?.(actor);
      this.#switchTo(actor);
    };
    const stop = platform.trace.subscribe((record) => this.#take(record));
    this.stop = () => {
      stop();
      scheduler.onSwitch = onSwitch;
    };
  }

  #switchTo(actor: Actor): void {
    const { counts, taken } = this.scheduler.decisions;
    const name = isThread(actor) ? actor.name : `hardware ${actor.name}`;
    const at = counts.length - 1;
    const chosen = counts.length > this.#choices && taken[at] > 0;
    this.#choices = counts.length;
    if (name === this.#actor && !chosen) return;
    this.#actor = name;
    if (!this.scheduler.preemptive) return;
    this.#lines.push({ software: isThread(actor), text: `── ${name}${chosen ? `  (choice ${at}:${taken[at]})` : ""}` });
  }

  #take(record: TraceRecord): void {
    this.#note(record);
    if (!this.scheduler.preemptive || SILENT.has(record.name)) return;
    const { name, time: _time, ...fields } = record;
    const software = this.scheduler.current !== null && !HARDWARE.test(name);
    this.#lines.push({ software, text: `   ${name} ${valuesOf(fields)}` });
  }

  #note(record: TraceRecord): void {
    switch (record.name) {
      case "lock:acquired":
        this.#held.set(record.thread, [...(this.#held.get(record.thread) ?? []), record.lock]);
        break;
      case "lock:released":
        this.#held.set(
          record.thread,
          (this.#held.get(record.thread) ?? []).filter((lock) => lock !== record.lock),
        );
        break;
      case "table:written":
        this.#written.delete(record.address);
        this.#written.set(
          record.address,
          `${record.by} ${record.table} @ ${hex(record.address)} = ${hex(record.value)}`,
        );
        break;
      case "tlb:filled":
        this.#cached.push(
          `${record.cache} of ${record.unit}: requester ${hex(record.rid)} PASID ${record.pasid} ${hex(record.address)} → ${hex(record.pa)}`,
        );
        break;
      case "ats:invalidated":
      case "cache:invalidated":
        this.#cached.push(`${record.unit} invalidated: ${valuesOf(record)}`);
        break;
      default:
    }
  }

  /** The text, with the state at the end. */
  render(): string {
    const body = this.#lines.map(({ software, text }) =>
      software ? text : `${" ".repeat(LEFT)}| ${text.trimStart()}`,
    );
    const threads = this.scheduler.waiting.map(({ name, waitsFor }) => `  ${name} waits for ${waitsFor}`);
    const locks = [...this.#held]
      .filter(([, held]) => held.length > 0)
      .map(([who, held]) => `  ${who} holds ${held.join(", ")}`);
    const tables = [...this.#written.values()].slice(-LAST).map((text) => `  ${text}`);
    const caches = this.#cached.slice(-LAST).map((text) => `  ${text}`);
    return [
      `${"software".padEnd(LEFT)}| hardware and devices`,
      ...body,
      ...section("at the end", threads),
      ...section("locks", locks),
      ...section("table words written last", tables),
      ...section("caches, last changes", caches),
    ].join("\n");
  }
}

/** What hardware and devices do while a thread runs. */
const HARDWARE = /^(dma|translate|config|tlb|cache|table:read|table:updated|command|fault|irq|ats|pri|stall|device)/;

const hex = (value: number | bigint) => `0x${value.toString(16)}`;

function valuesOf(fields: object): string {
  return Object.entries(fields)
    .filter(([key]) => key !== "words" && key !== "name" && key !== "time")
    .map(([key, value]) => `${key}=${typeof value === "bigint" || ADDRESSES.has(key) ? hex(value as bigint) : value}`)
    .join(" ");
}

const ADDRESSES: ReadonlySet<string> = new Set(["pa", "rid"]);

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ["", `${title}:`, ...lines];
}
