/**
 * The peers' VFIO cases: programs of Linux's selftests and of awilliam/tests as operations with what they expect. Each runs
 * in a process of its own on an edu device behind VT-d, with the answers of the kernel whose tests they are (7.0).
 */
import { type LoadedFile, listIn } from "../load.js";
import type { Report } from "../report.js";
import { DEVICE_STEPS } from "./case-device-steps.js";
import { caseMachine } from "./case-machine.js";
import { MAPPING_STEPS } from "./case-mapping-steps.js";
import { CaseProgram, type CaseStep } from "./case-program.js";

interface VfioCase {
  readonly id: string;
  readonly mode?: string;
  readonly iommu?: string;
  readonly steps: readonly CaseStep[];
}

/** Their operations are system calls, or words about several. */
export function isCaseFile(file: LoadedFile): boolean {
  return listIn<VfioCase>(file, "cases").some(
    (one) =>
      typeof one?.id === "string" &&
      one.steps?.some?.(({ op }) => notOurs(one as VfioCase) !== undefined || handlerOf(op) !== undefined),
  );
}

/** Why a case is not about type1; undefined when it is. */
function notOurs({ id, mode }: VfioCase): string | undefined {
  if (mode?.startsWith?.("iommufd")) return `${mode} is another interface than type1`;
  if (id.endsWith("option_huge_pages")) return "IOMMU_OPTION is an ioctl of iommufd";
  if (id.endsWith(".get_info")) return "iommufd's compatibility layer has other capabilities than type1";
  if (id.endsWith("TYPE1v2.huge_map")) return "iommufd's compatibility layer gives ENOENT where type1 gives EINVAL";
  return undefined;
}

export async function runCases(file: LoadedFile, report: Report): Promise<void> {
  for (const one of listIn<VfioCase>(file, "cases"))
    await report.attempt(`${one?.id}`, () => judge(one as VfioCase, report));
}

async function judge(one: VfioCase, report: Report): Promise<void> {
  const reason = notOurs(one);
  if (reason !== undefined) return report.notApplicable(reason);
  const machine = await caseMachine();
  const differences = await machine.platform.run(async () => {
    const program = await CaseProgram.start(machine, typeOf(one), one.id);
    for (const step of one.steps) await doStep(program, step);
    await program.end();
    return program.differences;
  }, one.id);
  const leaks = await machine.platform.close();
  if (differences.length === 0 && leaks.length === 0) report.pass();
  for (const difference of [...differences, ...leaks.map((leak) => `left behind: ${leak}`)])
    report.fail(`${one.id}: ${difference}`);
}

const STEPS = [...MAPPING_STEPS, ...DEVICE_STEPS];

function handlerOf(op: unknown) {
  return typeof op === "string" ? STEPS.find(({ pattern }) => pattern.test(plain(op))) : undefined;
}

async function doStep(program: CaseProgram, { op, args = {}, expect }: CaseStep): Promise<void> {
  const handler = handlerOf(op);
  if (handler) await handler.run(program, args, expect, plain(op));
  else program.note(op, "the runner does not know the operation");
}

/** "VFIO_IOMMU_MAP_DMA" is MAP_DMA: the ioctl's name without whose it is. */
function plain(op: string): string {
  return op.replace(/^VFIO_(IOMMU_)?/, "");
}

const TYPE1 = 1;
const TYPE1V2 = 3;

/** v1 where the case names it, or where it splits mappings. */
function typeOf({ mode = "", iommu = "" }: VfioCase): number {
  const v1 = mode === "vfio_type1_iommu" || iommu === "VFIO_TYPE1_IOMMU" || iommu.includes("(v1: split");
  return v1 ? TYPE1 : TYPE1V2;
}
