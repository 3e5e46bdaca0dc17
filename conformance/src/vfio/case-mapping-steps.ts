/** Steps that map and unmap memory: Linux's selftests and awilliam/tests. */
import { DmaMapFlags } from "@iommukit/vfio-type1";
import {
  BAR_SIZE,
  type CaseArguments,
  type CaseProgram,
  type CaseStep,
  GIB,
  MIB2,
  PAGE,
  type StepHandler,
  toSize,
} from "./case-program.js";
import { evaluate } from "./case-values.js";

const PAGES_OF_2_MIB = 512;

export const MAPPING_STEPS: readonly StepHandler[] = [
  { pattern: /^MAP(_DMA)?$/, run: map },
  { pattern: /^UNMAP(_DMA)?$/, run: unmap },
  { pattern: /^UNMAP_ALL$/, run: (program, _args, expect) => unmapAll(program, {}, expect) },
  { pattern: /^HVA2IOVA$/, run: translated },
  { pattern: /^PAGE_TABLE_LEVEL$/, run: pageTableLevel },
  { pattern: /^REPEAT/, run: repeat },
  { pattern: /^same, backwards/, run: checkerboardBackwards },
  {
    pattern: /^(for iova|same again|for each: UNMAP|again: UNMAP|MAP even|MAP backwards|UNMAP even|UNMAP backwards)/,
    run: (program, _args, expect, op) => everyPage(program, expect, op, op.includes("backwards")),
  },
  { pattern: /^(MAP same|UNMAP whole$|MAP again|UNMAP 4K pieces)/, run: hugePage },
  { pattern: /^262144/, run: (program, _args, expect) => manyPages(program, expect) },
  { pattern: /^repeat/, run: again },
  { pattern: /^(mmap BAR|UNMAP whole range)/, run: mapBar },
];

/** "READ|WRITE", READ alone, or bits that the kernel does not know. */
function toFlags(text: unknown): number {
  if (text === undefined) return DmaMapFlags.READ | DmaMapFlags.WRITE;
  if (typeof text === "number") return text;
  if (typeof text !== "string") throw new Error(`not flags in a VFIO case: ${JSON.stringify(text)}`);
  const names = text.split(/[|, ]+/).filter((name) => name !== "" && name !== "NONE");
  return names.reduce((flags, name) => flags | flagOf(name), 0);
}

function flagOf(name: string): number {
  const flag = (DmaMapFlags as Readonly<Record<string, number>>)[name.replace(/^VFIO_DMA_MAP_FLAG_/, "")];
  return flag ?? Number(evaluate(name, {}));
}

async function map(program: CaseProgram, args: CaseArguments, expect: unknown): Promise<void> {
  const bar = typeof args.vaddr === "string" && args.vaddr.includes("BAR");
  const size = args.size === "BAR" ? BAR_SIZE : toSize(args.size ?? PAGE, program.symbols);
  // "4K only": the BAR is mapped at an address that is no multiple of its size.
  const iova = bar && args.vaddr_alignment === "4K only" ? GIB + PAGE : await toIova(program, args.iova);
  const vaddr = bar || args.vaddr === undefined ? undefined : toSize(args.vaddr, program.symbols);
  await program.map(expect, { iova, size }, vaddr, toFlags(args.flags));
}

async function toIova(program: CaseProgram, text: unknown): Promise<bigint> {
  if (text === undefined || text === "allocated") return 4n * GIB;
  if (text === "same") return program.last.iova;
  if (typeof text !== "string" || !text.startsWith("last iova")) return toSize(text, program.symbols);
  const last = (await program.container.info()).iovaRanges.at(-1)?.end ?? 0n;
  return evaluate(text.replace("last iova", "LAST"), { ...program.symbols, LAST: last });
}

async function unmap(program: CaseProgram, args: CaseArguments, expect: unknown): Promise<void> {
  if (args.flags === "ALL") {
    await unmapAll(program, args, expect);
    return;
  }
  const iova = args.iova === undefined ? program.last.iova : await toIova(program, args.iova);
  const { size } = program.last;
  await program.unmap(expect, { iova, size: args.size === undefined ? size : toSize(args.size, program.symbols) });
}

async function unmapAll(program: CaseProgram, args: CaseArguments, expect: unknown): Promise<void> {
  const iova = args.iova === undefined ? 0n : await toIova(program, args.iova);
  const done = await program.call("UNMAP ALL", expect, () =>
    program.container.unmapAll({ iova, size: toSize(args.size ?? 0, program.symbols) }),
  );
  if (done !== undefined) program.checkSize("UNMAP ALL", done, expect);
}

/** The test library's look-up of an address that it mapped: here, what the IOMMU translates. */
function translated(program: CaseProgram, _args: CaseArguments, expect: unknown): void {
  const group = program.machine.platform.groups.all.get(Number(program.group.id));
  const pa = group?.domain?.ops.iovaToPhys(group.domain, program.last.iova);
  if ((pa !== undefined) !== (expect !== "not found")) program.note("HVA2IOVA", `${pa}`, expect);
}

/** The page size at the mapping's address, which the test reads from debugfs; not for v1. */
function pageTableLevel(program: CaseProgram): void {
  const { type, pageSizes, last } = program;
  if (type === 1) return;
  const wanted = Number(last.size);
  if (pageSizes.size !== 1 || !pageSizes.has(wanted)) program.note("page size", [...pageSizes].join(", "), wanted);
}

/** The steps inside for each i of a range, both ends included. */
async function repeat(program: CaseProgram, args: CaseArguments, _expect: unknown, op: string): Promise<void> {
  const { i: range = "0..15" } = args as { readonly i?: string };
  const [first, last] = range.split("..").map(Number);
  const order = Array.from({ length: Math.max(last - first + 1, 0) }, (_, n) => first + n);
  if (op.endsWith("SHUFFLED"))
    for (let n = order.length - 1; n > 0; n--) swap(order, n, program.random.u32() % (n + 1));
  for (const i of order) {
    program.index = BigInt(i);
    for (const inner of args.do as readonly CaseStep[]) {
      const handler = MAPPING_STEPS.find(({ pattern }) => pattern.test(inner.op));
      if (handler) await handler.run(program, inner.args ?? {}, inner.expect, inner.op);
      else program.note(inner.op, "the runner does not know the operation");
    }
  }
}

async function everyPage(program: CaseProgram, expect: unknown, op: string, backwards: boolean): Promise<void> {
  for (const page of pageOrder(op.includes("even"), backwards)) {
    const range = { iova: BigInt(page) * PAGE, size: PAGE };
    if (op.includes("UNMAP")) await program.unmap(expect, range);
    else await program.map(expect, range);
  }
}

async function checkerboardBackwards(program: CaseProgram): Promise<void> {
  await everyPage(program, "ok", "MAP even then odd pages", true);
  await everyPage(program, { size_out: 4096 }, "UNMAP even then odd", true);
}

async function hugePage(program: CaseProgram, _args: CaseArguments, expect: unknown, op: string): Promise<void> {
  const whole = { iova: 0n, size: MIB2 };
  if (op.startsWith("MAP")) await program.map(expect, whole);
  else if (op === "UNMAP whole") await program.unmap(expect, whole);
  else {
    let sum = 0n;
    for (let at = MIB2 - PAGE; at >= 0n; at -= PAGE) sum += await program.unmap("ok", { iova: at, size: PAGE });
    if (sum !== MIB2) program.note(op, `${sum} bytes in all`, expect);
  }
}

async function manyPages(program: CaseProgram, expect: unknown): Promise<void> {
  for (let page = 0n; page < GIB / PAGE; page++) await program.map(expect, { iova: page * PAGE, size: PAGE });
}

/** The test repeats 262,144 mappings thirty times to measure; a second time shows that the first left nothing behind. */
async function again(program: CaseProgram): Promise<void> {
  await manyPages(program, "ok");
  await program.unmap({ size_out: Number(GIB) }, { iova: 0n, size: GIB });
}

async function mapBar(program: CaseProgram, _args: CaseArguments, expect: unknown, op: string): Promise<void> {
  const range = { iova: 4n * GIB, size: BAR_SIZE };
  if (op.startsWith("UNMAP")) await program.unmap(expect, range);
  else await program.map(expect, range, program.buffer, DmaMapFlags.READ);
}

/** The pages of 2 MiB: upwards, downwards, or every second one and then the others. */
function pageOrder(checkered: boolean, backwards: boolean): number[] {
  const all = Array.from({ length: PAGES_OF_2_MIB }, (_, page) => page);
  const order = checkered ? [...all.filter((page) => page % 2 === 0), ...all.filter((page) => page % 2 === 1)] : all;
  return backwards ? order.reverse() : order;
}

function swap(list: number[], a: number, b: number): void {
  [list[a], list[b]] = [list[b], list[a]];
}
