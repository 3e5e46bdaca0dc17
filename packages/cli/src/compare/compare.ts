/** Runs the same work on the same process behind several backends, one after the other, and ends the process under all. */
import { setTimeout } from "node:timers/promises";
import type { TraceRecord } from "@iommukit/core";
import { BackendRun } from "./backend-run.js";
import { BACKENDS } from "./backends.js";
import type { Counts } from "./counts.js";
import { type ExitReport, ExitUnderDma } from "./exit-under-dma.js";
import type { SubjectSource } from "./subject.js";
import { type Verification, Workload } from "./workload.js";

export interface BackendResult extends Verification, Counts {
  readonly name: string;
  /** One sentence: preset and features. */
  readonly description: string;
  readonly pasid: number;
  /** RAM in tables while the process is bound, by owner. */
  readonly tableBytes: Readonly<Record<string, number>>;
  readonly hostMilliseconds: number;
  /** How the death of the process went; undefined for a process that lives on. */
  readonly exit?: ExitReport;
  /** What was left behind after everything was closed. */
  readonly leaks: readonly string[];
}

export interface Comparison {
  readonly process: { readonly pid: number; readonly kind: string; readonly description: string };
  readonly workload: {
    readonly file: string;
    readonly bytes: number;
    readonly checks: readonly string[];
    readonly seed: number;
  };
  readonly backends: readonly BackendResult[];
}

export interface CompareOptions {
  readonly backends: readonly string[];
  /** Bytes to read from the mapped file at least. */
  readonly bytes: number;
  readonly seed: number;
  readonly progress?: (line: string) => void;
  readonly onTrace?: (backend: string, record: TraceRecord) => void;
}

interface Finished {
  readonly run: BackendRun;
  readonly result: Omit<BackendResult, "exit" | "leaks">;
}

export async function compare(source: SubjectSource, options: CompareOptions): Promise<Comparison> {
  const finished: Finished[] = [];
  try {
    for (const [index, name] of options.backends.entries()) finished.push(await work(source, options, name, index));
    const exits = source.mayKill ? await killUnder(source, finished) : [];
    const backends: BackendResult[] = [];
    for (const [index, { run, result }] of finished.entries()) {
      const counts = structuredClone(run.counts);
      backends.push({ ...result, ...counts, exit: exits[index], leaks: await run.close() });
    }
    const { subject } = finished[0].run;
    return {
      process: { pid: subject.pid, kind: source.kind, description: source.description },
      workload: {
        file: subject.file.name,
        bytes: backends[0].bytes,
        checks: backends[0].checks.map(({ what }) => what),
        seed: options.seed,
      },
      backends,
    };
  } finally {
    await source.release();
  }
}

async function work(source: SubjectSource, options: CompareOptions, name: string, index: number): Promise<Finished> {
  const plugin = BACKENDS[name]();
  const listener = options.onTrace && ((record: TraceRecord) => options.onTrace?.(name, record));
  const run = await BackendRun.start(name, plugin, source, index, listener);
  const started = process.hrtime.bigint();
  const progress = (bytes: number, of: number) => options.progress?.(`${name}: ${bytes >> 20} of ${of >> 20} MiB`);
  const verification = await new Workload(run, options.bytes, progress).execute();
  const hostMilliseconds = Number(process.hrtime.bigint() - started) / 1e6;
  const { pasid, counts } = run;
  const result = {
    name,
    description: plugin.description,
    pasid,
    ...verification,
    ...counts,
    tableBytes: run.tableBytes(),
    hostMilliseconds,
  };
  return { run, result };
}

async function killUnder(source: SubjectSource, finished: readonly Finished[]): Promise<ExitReport[]> {
  const exits = finished.map(({ run }) => new ExitUnderDma(run));
  for (const exit of exits) await exit.begin();
  await source.kill();
  await setTimeout(0);
  const reports: ExitReport[] = [];
  for (const exit of exits) reports.push(await exit.finish());
  return reports;
}
