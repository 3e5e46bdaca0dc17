/**
 * `ste`: Linux's STE and CD updates against the driver's hitless writer: the entry's value at every sync, how many syncs, and
 * whether hardware ever found the entry invalid. Also which bits each configuration uses, and the invalidation array.
 */
import { type Scheduler, SlabMemory, VirtualTimeScheduler } from "@iommukit/core";
import {
  CD_RULES,
  type EntryRules,
  EntryWriter,
  InvalidationArray,
  type InvalidationItem,
  InvalidationType,
  STE_RULES,
} from "@iommukit/iommu-smmuv3";
import { type LoadedFile, listIn } from "../load.js";
import type { Report } from "../report.js";

type Qwords = readonly string[];

interface KunitTransition {
  readonly id: string;
  readonly entry: "STE" | "CD";
  readonly initial: Qwords;
  readonly target: Qwords;
  readonly initial_used_bits: Qwords;
  readonly target_used_bits: Qwords;
  readonly update_safe_bits: Qwords;
  readonly value_at_each_sync: readonly Qwords[];
  readonly expected_syncs: number;
  readonly expected_hitless: boolean;
}

interface OraclePair {
  readonly from: string;
  readonly to: string;
  readonly syncs: number;
  readonly hitless: boolean;
  readonly value_at_each_sync: readonly Qwords[];
}

interface ArrayStep {
  readonly op: string;
  readonly with?: string;
  readonly ids?: readonly number[];
  readonly users?: readonly number[];
  readonly ssids?: readonly number[];
  readonly num_invs?: number;
  readonly trashes?: number;
}

interface Document {
  readonly oracle_entry_values?: Readonly<Record<string, Qwords>>;
  readonly invalidation_array?: {
    readonly inputs: Readonly<Record<string, readonly (readonly [keyof typeof InvalidationType, number, number])[]>>;
    readonly steps: readonly ArrayStep[];
  };
}

const ENTRY_AT = 0x1000;
const RULES: Readonly<Partial<Record<string, EntryRules>>> = { STE: STE_RULES, CD: CD_RULES };

export const holds = "updates of table entries or of the invalidation array";

export function recognises(file: LoadedFile): boolean {
  const lists = ["kunit_transitions", "oracle_pairs"].flatMap((name) => listIn(file, name));
  return lists.length > 0 || (file.document as Document | null)?.invalidation_array !== undefined;
}

export async function run(files: LoadedFile[], report: Report): Promise<void> {
  const scheduler = new VirtualTimeScheduler();
  for (const file of files) {
    const { name } = file;
    const { oracle_entry_values: entries = {}, invalidation_array: array } = file.document as Document;
    for (const test of listIn<KunitTransition>(file, "kunit_transitions")) {
      const where = `${name} ${test?.id}`;
      await report.attempt(where, () => kunit(test as KunitTransition, where, scheduler, report));
    }
    for (const pair of listIn<OraclePair>(file, "oracle_pairs")) {
      const where = `${name} ${pair?.from} → ${pair?.to}`;
      await report.attempt(where, () => oraclePair(pair as OraclePair, entries, where, scheduler, report));
    }
    const where = `${name} invalidation_array`;
    if (array) await report.attempt(where, () => invalidationArray(array, where, report));
  }
}

async function oraclePair(
  pair: OraclePair,
  entries: Readonly<Record<string, Qwords>>,
  where: string,
  scheduler: Scheduler,
  report: Report,
): Promise<void> {
  const [from, to] = [entries[pair.from], entries[pair.to]];
  if (!from || !to) throw new Error("no entry value of that name");
  const got = await transition(STE_RULES, from, to, scheduler);
  compare(where, { values: pair.value_at_each_sync, syncs: pair.syncs, hitless: pair.hitless }, got, report);
}

function compare(where: string, expected: unknown, got: unknown, report: Report): void {
  const [want, have] = [JSON.stringify(expected), JSON.stringify(got)];
  if (want === have) report.pass();
  else report.fail(`${where}: expected ${want}, got ${have}`);
}

async function kunit(test: KunitTransition, where: string, scheduler: Scheduler, report: Report): Promise<void> {
  const rules = RULES[test.entry];
  if (!rules) throw new Error(`no entry is called ${JSON.stringify(test.entry)}`);
  const [from, to] = [words(test.initial), words(test.target)];
  const got = {
    initial_used_bits: qwords(rules.usedBits(from)),
    target_used_bits: qwords(rules.usedBits(to)),
    update_safe_bits: qwords(rules.updateSafeBits?.(from, to) ?? new Int32Array(16)),
    ...(await transition(rules, test.initial, test.target, scheduler)),
  };
  const expected = {
    initial_used_bits: test.initial_used_bits,
    target_used_bits: test.target_used_bits,
    update_safe_bits: test.update_safe_bits,
    values: test.value_at_each_sync,
    syncs: test.expected_syncs,
    hitless: test.expected_hitless,
  };
  compare(where, expected, got, report);
}

/** Hitless as the peers' test has it: at no sync was the entry's first doubleword zero. */
async function transition(rules: EntryRules, initial: Qwords, target: Qwords, scheduler: Scheduler) {
  const memory = new SlabMemory([{ base: ENTRY_AT, size: 0x1000 }]);
  for (const [i, value] of initial.entries())
    memory.store64(ENTRY_AT + 8 * i, Number(BigInt(value) >> 32n) | 0, Number(BigInt(value) & 0xffff_ffffn) | 0);
  const writer = new EntryWriter(memory, scheduler, rules);
  const values: string[][] = [];
  await scheduler.run(async () => {
    await writer.write(ENTRY_AT, words(target), async () => {
      values.push(qwords(writer.read(ENTRY_AT)));
    });
  });
  const hitless = values.every(([first]) => BigInt(first) !== 0n);
  return { values, syncs: values.length, hitless };
}

function words(values: Qwords): Int32Array {
  return Int32Array.from(
    values.flatMap((value) => [Number(BigInt(value) & 0xffff_ffffn) | 0, Number(BigInt(value) >> 32n) | 0]),
  );
}

function qwords(entry: Int32Array): string[] {
  const hex = (word: number) => (word >>> 0).toString(16).padStart(8, "0");
  return Array.from({ length: entry.length / 2 }, (_, i) => `0x${hex(entry[2 * i + 1])}${hex(entry[2 * i])}`);
}

function invalidationArray(data: NonNullable<Document["invalidation_array"]>, where: string, report: Report): void {
  const array = new InvalidationArray();
  for (const [index, step] of data.steps.entries()) {
    const items = (data.inputs[step.with ?? ""] ?? []).map(
      ([type, id, ssid]): InvalidationItem => ({ type: InvalidationType[type], id, ssid }),
    );
    if (step.op === "merge") array.merge(items);
    else if (step.op === "unref") array.unref(items);
    else if (step.op === "purge") array.purge();
    else if (step.op !== "new_empty") throw new Error(`step ${index} ${step.op}: no such step is known`);
    const got = {
      ids: array.items.map(({ id }) => id),
      users: array.items.map(({ users }) => users),
      ssids: array.items.map(({ ssid }) => ssid),
      trashes: array.trashes,
    };
    const expected = {
      ids: step.ids ?? new Array(step.num_invs ?? 0).fill(0),
      users: step.users ?? [],
      ssids: step.ssids ?? [],
      trashes: step.trashes ?? 0,
    };
    compare(`${where} step ${index} ${step.op} ${step.with ?? ""}`, expected, got, report);
  }
}
