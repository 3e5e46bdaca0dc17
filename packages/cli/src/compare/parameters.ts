/** What a sweep can vary: sizes of caches and queues, and page sizes. Each value becomes a part of a machine's tuning. */
import { UsageError } from "../errors.js";

/** Undefined: as the preset or the device has it. Numbers are entries, or bytes of a page. */
export interface Tuning {
  readonly tlb?: number;
  readonly walk?: number;
  readonly atc?: number;
  readonly pri?: number;
  readonly engines?: number;
  readonly page?: number;
  readonly granule?: number;
}

export interface Parameter {
  readonly name: keyof Tuning;
  readonly says: string;
  /** What the values may be, for people. */
  readonly wants: string;
  readonly legal: (value: number) => boolean;
}

const power = (low: number, high: number) => (value: number) =>
  value >= low && value <= high && Number.isInteger(Math.log2(value));
const between = (low: number, high: number) => (value: number) => value >= low && value <= high;

const CACHE = { wants: "powers of two from 4 to 65536", legal: power(4, 65_536) };

export const PARAMETERS: readonly Parameter[] = [
  { name: "tlb", says: "entries of the IOMMU's TLB", ...CACHE },
  { name: "walk", says: "entries of its cache of upper-level table entries", ...CACHE },
  { name: "atc", says: "entries of the device's ATC", ...CACHE },
  {
    name: "pri",
    says: "page requests that the device may have under way",
    wants: "numbers from 1 to 512",
    legal: between(1, 512),
  },
  {
    name: "engines",
    says: "descriptors that the device works on at a time",
    wants: "numbers from 1 to 64",
    legal: between(1, 64),
  },
  {
    name: "page",
    says: "largest page that a process gets: small pages only, or huge ones everywhere",
    wants: "4k and 2m",
    legal: (value) => value === 4096 || value === 1 << 21,
  },
  {
    name: "granule",
    says: "page size of the IOMMU's own tables; smmuv3, workload ring",
    wants: "4k, 16k and 64k",
    legal: (value) => value === 4096 || value === 16_384 || value === 65_536,
  },
];

export interface Sweep {
  readonly parameter: Parameter;
  readonly values: readonly { readonly text: string; readonly value: number }[];
}

/** @param text "tlb=64,256,1024". @throws UsageError what there is, and which values it takes */
export function parseSweep(text: string): Sweep {
  const [, name, list] = /^([a-z]+)=(.+)$/.exec(text) ?? [];
  const parameter = PARAMETERS.find((candidate) => candidate.name === name);
  if (parameter === undefined)
    throw new UsageError(
      `--sweep ${text}: NAME=VALUE,… with a name of ${PARAMETERS.map((each) => each.name).join(", ")}`,
    );
  const values = list.split(",").map((each) => ({ text: each, value: sizeOf(each) }));
  const wrong = values.find(({ value }) => !parameter.legal(value));
  if (wrong !== undefined) throw new UsageError(`--sweep ${name}: ${wrong.text}: ${parameter.wants} are wanted`);
  if (new Set(values.map(({ value }) => value)).size < values.length)
    throw new UsageError(`--sweep ${name}: each value at most once`);
  return { parameter, values };
}

/** "64", "4k", "2m"; NaN for anything else. */
function sizeOf(text: string): number {
  const [, digits, unit] = /^(\d{1,6})([km]?)$/i.exec(text) ?? [];
  const factor = { k: 1 << 10, m: 1 << 20 }[unit?.toLowerCase() ?? ""] ?? 1;
  return digits === undefined ? Number.NaN : Number(digits) * factor;
}

export interface Setting {
  readonly name: keyof Tuning;
  readonly text: string;
  readonly value: number;
}

/** Every combination of the sweeps' values; one without settings when there are no sweeps. */
export function combinations(sweeps: readonly Sweep[]): readonly (readonly Setting[])[] {
  const names = sweeps.map(({ parameter }) => parameter.name);
  const twice = names.find((name, n) => names.indexOf(name) !== n);
  if (twice !== undefined) throw new UsageError(`--sweep ${twice} is given twice`);
  return sweeps.reduce<readonly (readonly Setting[])[]>(
    (all, { parameter, values }) =>
      all.flatMap((settings) => values.map((value) => [...settings, { name: parameter.name, ...value }])),
    [[]],
  );
}

export function tuningOf(settings: readonly Setting[]): Tuning {
  return Object.fromEntries(settings.map(({ name, value }) => [name, value]));
}
