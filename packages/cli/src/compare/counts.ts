/** Counts of one run, taken from the trace: exact, and the same for every backend. */
import type { TraceRecord, Tracer } from "@iommukit/core";

/** Occurrences by name: "STE" → 4. */
export type Tally = Record<string, number>;

export interface Counts {
  bytesRead: number;
  bytesWritten: number;
  translationRequests: number;
  pageRequests: number;
  pageRequestGroups: number;
  pagesFaultedIn: number;
  faultsRecorded: number;
  tableReads: Tally;
  cacheHits: Tally;
  cacheMisses: Tally;
  commands: Tally;
  faults: Tally;
  invalidations: number;
}

export function newCounts(): Counts {
  return {
    bytesRead: 0,
    bytesWritten: 0,
    translationRequests: 0,
    pageRequests: 0,
    pageRequestGroups: 0,
    pagesFaultedIn: 0,
    faultsRecorded: 0,
    tableReads: {},
    cacheHits: {},
    cacheMisses: {},
    commands: {},
    faults: {},
    invalidations: 0,
  };
}

function add(tally: Tally, name: string): void {
  tally[name] = (tally[name] ?? 0) + 1;
}

/** Counts what happens around one device into `counts` until the returned function is called. */
export function count(trace: Tracer, counts: Counts, device: string): () => void {
  return trace.subscribe((record: TraceRecord) => {
    switch (record.name) {
      case "dma:completed":
        if (record.write) counts.bytesWritten += record.length;
        else counts.bytesRead += record.length;
        return;
      case "ats:completed":
        counts.translationRequests++;
        return;
      case "pri:requested":
        // The device tells when it asks, the IOMMU when it has the message: one of the two is enough.
        if (record.unit === device) return;
        counts.pageRequests++;
        if (record.last) counts.pageRequestGroups++;
        return;
      case "mm:faulted":
        if (record.result === "ok") counts.pagesFaultedIn++;
        return;
      case "table:read":
        add(counts.tableReads, record.table);
        return;
      case "config:hit":
      case "tlb:hit":
        add(counts.cacheHits, record.cache);
        return;
      case "config:missed":
      case "tlb:missed":
        add(counts.cacheMisses, record.cache);
        return;
      case "command:consumed":
        add(counts.commands, record.command);
        return;
      case "fault:recorded":
        counts.faultsRecorded++;
        add(counts.faults, record.fault);
        return;
      case "ats:invalidated":
        counts.invalidations++;
        return;
      default:
    }
  });
}

export function total(tally: Tally): number {
  return Object.values(tally).reduce((sum, value) => sum + value, 0);
}
