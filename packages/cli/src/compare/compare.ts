/** The same work behind several backends, one after the other, and what each did for it. */
import { setTimeout } from "node:timers/promises";
import type { TraceRecord } from "@iommukit/core";
import { type BackendRun, startRun } from "./backend-run.js";
import { faultPercentiles, type Percentiles } from "./cost-model.js";
import type { Counts } from "./counts.js";
import { type ExitReport, ExitUnderDma } from "./exit-under-dma.js";
import { Machine } from "./machine.js";
import { MixedWorkload, type Verification } from "./mixed-workload.js";
import type { Point } from "./points.js";
import type { SubjectSource } from "./subject.js";
import { Bench } from "./workloads/bench.js";
import type { NamedWorkload } from "./workloads/named-workload.js";

export interface BackendResult extends Verification, Counts {
  /** The point's label. */
  readonly name: string;
  readonly backend: Point["backend"]["name"];
  /** With the preset that was asked for: "vtd:everything". */
  readonly backendLabel: string;
  /** Swept values, as they were given. */
  readonly settings: Readonly<Record<string, string>>;
  /** One sentence: preset and features. */
  readonly description: string;
  /** Of every bound process. */
  readonly pasids: readonly number[];
  /** RAM in tables while the work's processes are bound, by owner. */
  readonly tableBytes: Readonly<Record<string, number>>;
  /** Modelled nanoseconds; undefined when the device met no page fault. */
  readonly faultLatency: Percentiles | undefined;
  readonly hostMilliseconds: number;
  /** How the death of the process went; undefined for a process that lives on. */
  readonly exit?: ExitReport;
  /** What was left behind after everything was closed. */
  readonly leaks: readonly string[];
}

export interface Comparison {
  readonly process: { readonly pid?: number; readonly kind: string; readonly description: string };
  readonly workload: {
    readonly name: string;
    readonly file?: string;
    readonly bytes: number;
    readonly checks: readonly string[];
    readonly seed: number;
  };
  readonly backends: readonly BackendResult[];
}

export interface CompareOptions {
  readonly points: readonly Point[];
  /** Bytes to work on: to read from the mapped file at least. */
  readonly bytes: number;
  readonly seed: number;
  readonly progress?: (line: string) => void;
  readonly onTrace?: (backend: string, record: TraceRecord) => void;
}

/** The work on a process that exists anyway: one that is bound behind every backend at once, and dies under all. */
export async function compare(source: SubjectSource, options: CompareOptions): Promise<Comparison> {
  const finished: { run: BackendRun; result: Omit<BackendResult, "exit" | "leaks"> }[] = [];
  try {
    for (const [index, point] of options.points.entries()) {
      const run = await startRun(point, source, index, listenerOf(options, point));
      const progress = (bytes: number, of: number) =>
        options.progress?.(`${point.label}: ${bytes >> 20} of ${of >> 20} MiB`);
      const work = () => new MixedWorkload(run, options.bytes, progress).execute();
      finished.push({ run, result: await measured(point, run.machine, [run.pasid], work) });
    }
    const exits = source.mayKill
      ? await killUnder(
          source,
          finished.map(({ run }) => run),
        )
      : [];
    const backends: BackendResult[] = [];
    for (const [index, { run, result }] of finished.entries()) {
      const counts = structuredClone(run.machine.counts);
      backends.push({ ...result, ...counts, exit: exits[index], leaks: await run.machine.close() });
    }
    const { subject } = finished[0].run;
    return {
      process: { pid: subject.pid, kind: source.kind, description: source.description },
      workload: { ...workloadOf("mixed", backends, options), file: subject.file.name },
      backends,
    };
  } finally {
    await source.release();
  }
}

/** A workload that makes its own, simulated processes. */
export async function compareWorkload(workload: NamedWorkload, options: CompareOptions): Promise<Comparison> {
  const backends: BackendResult[] = [];
  for (const point of options.points) {
    options.progress?.(`${point.label}: ${workload.name}`);
    const machine = await Machine.start({ ...point, listener: listenerOf(options, point) });
    const pasids: number[] = [];
    const bench = new Bench(machine, { label: point.label, bytes: options.bytes, seed: options.seed });
    const result = await measured(point, machine, pasids, async () => {
      const verification = await bench.run(workload);
      pasids.push(...bench.pasids);
      return verification;
    });
    await machine.platform.run(() => bench.end(), "end");
    backends.push({ ...result, ...structuredClone(machine.counts), leaks: await machine.close() });
  }
  const description = workload.shares ? `simulated processes (seed ${options.seed})` : "no process is bound";
  return {
    process: { kind: "simulated", description },
    workload: workloadOf(workload.name, backends, options),
    backends,
  };
}

function workloadOf(name: string, backends: readonly BackendResult[], { seed }: CompareOptions) {
  return { name, bytes: backends[0].bytes, checks: backends[0].checks.map(({ what }) => what), seed };
}

function listenerOf({ onTrace }: CompareOptions, { label }: Point) {
  return onTrace && ((record: TraceRecord) => onTrace(label, record));
}

async function measured(
  { label, backend, settings, iommu }: Point,
  machine: Machine,
  pasids: readonly number[],
  work: () => Promise<Verification>,
): Promise<Omit<BackendResult, "exit" | "leaks">> {
  const started = process.hrtime.bigint();
  const verification = await work();
  const hostMilliseconds = Number(process.hrtime.bigint() - started) / 1e6;
  return {
    name: label,
    backend: backend.name,
    backendLabel: backend.label,
    settings: Object.fromEntries(settings.map(({ name, text }) => [name, text])),
    description: iommu.description,
    pasids,
    ...verification,
    ...machine.counts,
    tableBytes: machine.tableBytes(),
    faultLatency: faultPercentiles(backend.name, machine.latencies.faults),
    hostMilliseconds,
  };
}

async function killUnder(source: SubjectSource, runs: readonly BackendRun[]): Promise<ExitReport[]> {
  const exits = runs.map((run) => new ExitUnderDma(run));
  for (const exit of exits) await exit.begin();
  await source.kill();
  await setTimeout(0);
  const reports: ExitReport[] = [];
  for (const exit of exits) reports.push(await exit.finish());
  return reports;
}
