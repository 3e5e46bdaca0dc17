/**
 * Each page fault of the device as counts, taken from the trace: table reads of the translation request that found nothing,
 * requests that were before it in the queue, waits for invalidation commands until the answer, table reads of the request that
 * then succeeded. What that is in time is the cost model's to say.
 */
import type { TraceRecord, Tracer } from "@iommukit/core";

export interface FaultCounts {
  readonly readsBefore: number;
  /** Page requests of the device that had no answer yet when this one came. */
  readonly ahead: number;
  /** inv_wait_dsc or CMD_SYNC between request and answer. */
  readonly waits: number;
  readonly readsAfter: number;
}

interface Open {
  readonly readsBefore: number;
  ahead: number;
  waitsBefore: number;
  waits: number;
  answered: boolean;
}

const WAITS: ReadonlySet<string> = new Set(["inv_wait_dsc", "CMD_SYNC"]);

export class FaultLatencies {
  readonly faults: FaultCounts[] = [];
  readonly #open = new Map<string, Open>();
  /** By PASID and group index: the pages that wait for its answer. */
  readonly #groups = new Map<string, Open[]>();
  #reads = 0;
  #waits = 0;

  /** @param device whose faults: "0000:01:00.0" */
  constructor(private readonly device: string) {}

  listen(trace: Tracer): () => void {
    return trace.subscribe((record) => this.#take(record));
  }

  #take(record: TraceRecord): void {
    switch (record.name) {
      case "tlb:missed":
        if (record.unit === this.device) this.#reads = 0;
        return;
      case "table:read":
        this.#reads++;
        return;
      case "command:consumed":
        if (WAITS.has(record.command)) this.#waits++;
        return;
      case "ats:completed":
        this.#translated(`${record.pasid} ${record.address >> 12n}`, record.access !== 0);
        return;
      case "pri:requested":
        if (record.unit === this.device) this.#requested(record);
        return;
      case "pri:answered":
        this.#answered(`${record.pasid} ${record.prgi}`);
        return;
      default:
    }
  }

  #translated(page: string, present: boolean): void {
    const open = this.#open.get(page);
    if (!present) {
      if (open === undefined || open.answered)
        this.#open.set(page, { readsBefore: this.#reads, ahead: 0, waitsBefore: 0, waits: 0, answered: false });
      return;
    }
    if (open?.answered !== true) return;
    this.#open.delete(page);
    const { readsBefore, ahead, waits } = open;
    this.faults.push({ readsBefore, ahead, waits, readsAfter: this.#reads });
  }

  #requested({ pasid, prgi, address }: { pasid: number; prgi: number; address: bigint }): void {
    const open = this.#open.get(`${pasid} ${address >> 12n}`);
    if (open === undefined) return;
    const key = `${pasid} ${prgi}`;
    const group = this.#groups.get(key) ?? [];
    open.ahead = [...this.#groups.values()].reduce((sum, pages) => sum + pages.length, 0) - group.length;
    open.waitsBefore = this.#waits;
    this.#groups.set(key, [...group, open]);
  }

  #answered(key: string): void {
    for (const open of this.#groups.get(key) ?? []) {
      open.answered = true;
      open.waits = this.#waits - open.waitsBefore;
    }
    this.#groups.delete(key);
  }
}
