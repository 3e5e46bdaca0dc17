/** `iommukit explain`: what a fault, a dump or a log line means, and why it came. */
import { Command, InvalidArgumentError, Option } from "commander";
import { UsageError } from "../errors.js";
import { Explainer } from "../explain/explainer.js";
import { Output } from "../explain/output.js";
import { readLines } from "../explain/read-lines.js";
import type { ExplainRecord } from "../explain/record.js";
import { recordJson, renderRecord, renderWhy } from "../explain/render.js";
import { tableJson } from "../explain/table-json.js";
import { type NamedTable, TABLES, tableNamed } from "../explain/tables.js";
import { Unknown } from "../explain/unknown.js";
import { DebugfsDump } from "../explain/walk/debugfs-dump.js";
import { MemoryImages } from "../explain/walk/memory-image.js";
import { type Roots, walkFor } from "../explain/walk/walk.js";
import { Why } from "../explain/why.js";
import { withExamples } from "../manners/examples.js";
import { bdf, collect, hexValue } from "./values.js";

interface Options {
  readonly as?: NamedTable;
  readonly verbose?: boolean;
  readonly why: boolean;
  readonly json?: boolean;
  readonly ndjson?: boolean;
  readonly s?: string;
  readonly pasid?: number;
  readonly memory: readonly string[];
  readonly rtaddr?: bigint;
  readonly strtabBase?: bigint;
  readonly strtabCfg?: bigint;
}

function table(text: string): NamedTable {
  const found = tableNamed(text);
  if (found === undefined)
    throw new InvalidArgumentError("no table has that name; `iommukit explain --tables` lists them.");
  return found;
}

function pasid(text: string): number {
  const value = Number(text);
  if (!/^(0x[0-9a-f]+|\d+)$/i.test(text) || value >= 1 << 20)
    throw new InvalidArgumentError("a number below 2^20 is wanted.");
  return value;
}

export function explainCommand(): Command {
  const command = new Command("explain")
    .description("say what faults, events, table entries, registers and lspci output mean, and why they came")
    .argument("[file...]", "text of any mixture; - or nothing reads standard input")
    .option("-v, --verbose", "every field with bits, value, meaning and section; every cause")
    .option("--as <table>", "take bare hex words as this structure: STE, CD, PASID_ENTRY, CAP, …", table)
    .option("--tables", "list the structures that --as knows; with --json or --ndjson, every field of them")
    .option("-s <bdf>", "only this device", bdf)
    .option("--pasid <n>", "only this PASID", pasid)
    .option("--no-why", "leave out the likely causes")
    .addOption(
      new Option(
        "--memory <file[@addr]>",
        "raw memory at a physical address, or Linux's debugfs tables as text; may be repeated",
      )
        .argParser(collect)
        .default([], "none"),
    )
    .option("--rtaddr <hex>", "value of VT-d's RTADDR: walk its tables for each fault", hexValue)
    .option("--strtab-base <hex>", "value of SMMU_STRTAB_BASE: walk its tables for each event", hexValue)
    .option("--strtab-cfg <hex>", "value of SMMU_STRTAB_BASE_CFG", hexValue)
    .option("--json", "one array of records")
    .addOption(new Option("--ndjson", "one record a line").conflicts("json"))
    .action((files: string[], options: Options & { tables?: boolean }) =>
      options.tables ? listTables(files, options) : run(files, options),
    );
  return withExamples(command, [
    ["dmesg | iommukit explain", "what the IOMMU complains about, and why"],
    ["iommukit explain -v -s 01:00.0 dmesg.txt", "every field and every cause, for one device"],
    ["iommukit explain --as STE ste.txt", "hex words as a stream table entry"],
    [
      "iommukit explain --memory ram.bin@0x80000000 --rtaddr 0x80001000 dmesg.txt",
      "walk the tables of a memory image for each fault",
    ],
    [
      "cat /sys/kernel/debug/iommu/intel/dmar_translation_struct > tables.txt; dmesg | iommukit explain --memory tables.txt",
      "the same with the tables that the kernel prints",
    ],
    ["lspci -xxxx | iommukit explain --ndjson", "capabilities of every device, one record a line, for jq"],
  ]);
}

function listTables(files: readonly string[], { json, ndjson }: Options): void {
  if (files.length > 0) throw new UsageError("--tables and files exclude each other");
  const lines = TABLES.map((named) => {
    if (ndjson) return JSON.stringify(tableJson(named));
    const { family, name, table } = named;
    const full = `${family}.${name}`.padEnd(44);
    return `${full} ${String(table.bits).padStart(5)} bits  ${table.name} (${table.spec})`;
  });
  process.stdout.write(`${json ? JSON.stringify(TABLES.map(tableJson), undefined, 2) : lines.join("\n")}\n`);
}

async function run(files: readonly string[], options: Options): Promise<void> {
  const memory = new MemoryImages();
  const dump = new DebugfsDump();
  try {
    const images = options.memory.filter((spec) => spec.includes("@"));
    for (const spec of images) memory.add(spec);
    for (const path of options.memory.filter((spec) => !spec.includes("@"))) dump.add(path);
    await explainFiles(files.length === 0 ? ["-"] : files, options, { memory, dump, ...rootsOf(options, images) });
  } finally {
    memory.close();
  }
}

function rootsOf(
  { rtaddr, strtabBase, strtabCfg }: Options,
  images: readonly string[],
): Pick<Roots, "rtaddr" | "strtab"> {
  if ((strtabBase === undefined) !== (strtabCfg === undefined))
    throw new UsageError("--strtab-base and --strtab-cfg need each other");
  if (images.length > 0 && rtaddr === undefined && strtabBase === undefined)
    throw new UsageError("--memory needs --rtaddr, or --strtab-base and --strtab-cfg: where do the tables start?");
  return { rtaddr, strtab: strtabBase === undefined ? undefined : { base: strtabBase, config: Number(strtabCfg) } };
}

async function explainFiles(files: readonly string[], options: Options, roots: Roots): Promise<void> {
  const output = new Output();
  const why = new Why();
  const unknown = new Unknown();
  let shown = 0;
  let taken = 0;
  if (options.json) output.line("[");
  for (const file of files) {
    const emit = (record: ExplainRecord) => {
      if (!selected(record, options)) return;
      const walk = walkFor(record, roots);
      if (options.json || options.ndjson)
        output.line(`${options.json && shown > 0 ? "," : ""}${recordJson(record, file, walk, options.why)}`);
      else output.line(renderRecord(record, walk, options.verbose ?? false));
      shown++;
      why.add(record);
    };
    const explainer = new Explainer(emit, options.as);
    await readLines(file, process.stdin, (text) => {
      if (!explainer.line(text)) unknown.add(explainer.lines, text, options.as !== undefined);
    });
    explainer.end();
    taken += explainer.taken;
  }
  if (options.json) output.line("]");
  else if (!options.ndjson && options.why && why.groups.length > 0)
    output.line(renderWhy(why, options.verbose ?? false));
  output.flush();
  for (const line of unknown.report()) process.stderr.write(`iommukit: ${line}\n`);
  const chosen = options.s !== undefined || options.pasid !== undefined;
  if (taken > 0 && (shown > 0 || !chosen)) return;
  const which = taken > 0 ? " is of that device and PASID" : "";
  process.stderr.write(`iommukit: nothing in the input that explain knows${which}\n`);
  process.exitCode = 1;
}

function selected({ facts }: ExplainRecord, { s, pasid: wanted }: Options): boolean {
  return (s === undefined || facts.device === s) && (wanted === undefined || facts.pasid === wanted);
}
