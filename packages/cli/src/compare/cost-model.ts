/** The modelled time of a page fault: exact counts times these figures. Each says where it comes from. */
import type { Backend } from "../backends.js";
import { figures as unmapFigures } from "../replay/cost-model.js";
import type { FaultCounts } from "./fault-latencies.js";

export interface Figure {
  readonly what: string;
  readonly nanoseconds: number;
  readonly origin: "measured" | "paper" | "assumed";
  readonly source: string;
  /** How often in one fault. */
  readonly count: (fault: FaultCounts) => number;
}

const HYPERSIO = "HyperSIO/HyperTRIO (ISCA'20), defines.h: a simulator's parameter";

/** Two translation requests, a page request and its answer. */
const MESSAGES = 6;

const COMMON: readonly Figure[] = [
  {
    what: "PCIe, one way",
    nanoseconds: 450,
    origin: "paper",
    source: HYPERSIO,
    count: () => MESSAGES,
  },
  {
    what: "table read",
    nanoseconds: 50,
    origin: "paper",
    source: HYPERSIO,
    count: ({ readsBefore, readsAfter }) => readsBefore + readsAfter,
  },
  {
    what: "interrupt, handler and page fault, for it and for each request before it in the queue",
    nanoseconds: 3000,
    origin: "assumed",
    source: "no published figure",
    count: ({ ahead }) => ahead + 1,
  },
];

/** The wait is that of a replayed unmap. */
export function figures(backend: Backend["name"]): readonly Figure[] {
  const waits = unmapFigures(backend, false).filter(({ what }) => what === "wait");
  return [...COMMON, ...waits.map((figure) => ({ ...figure, count: (fault: FaultCounts) => fault.waits }))];
}

/** Modelled nanoseconds from the request that finds nothing to the translation. */
export function faultTime(backend: Backend["name"], fault: FaultCounts): number {
  return figures(backend).reduce((sum, { nanoseconds, count }) => sum + nanoseconds * count(fault), 0);
}

export interface Percentiles {
  readonly faults: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

/** Nanoseconds by nearest rank; undefined without faults. */
export function faultPercentiles(backend: Backend["name"], faults: readonly FaultCounts[]): Percentiles | undefined {
  if (faults.length === 0) return undefined;
  const times = faults.map((fault) => faultTime(backend, fault)).sort((a, b) => a - b);
  const at = (percent: number) => times[Math.ceil((percent / 100) * times.length) - 1];
  return { faults: times.length, p50: at(50), p90: at(90), p99: at(99), max: at(100) };
}
