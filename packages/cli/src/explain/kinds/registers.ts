/**
 * Registers: "dmar0: reg_base_addr fed90000 ver 1:0 cap … ecap …" of Linux's boot, rows of its debugfs file iommu_regset, and
 * `NAME = 0x…` of a dump. Offsets are compared where they are printed.
 */
import type { AnyLayout } from "@iommukit/core";
import { CMDQ_CONS } from "@iommukit/iommu-smmuv3";
import { CAP, DESCRIPTORS, ECAP, PAGE_REQUEST_DESCRIPTOR } from "@iommukit/iommu-vtd";
import type { Emit, Line, Recogniser } from "../recogniser.js";
import { type ExplainRecord, wordsOf } from "../record.js";
import { tableNamed } from "../tables.js";
import { structure } from "./words.js";

const UNIT =
  /(dmar\d+|IOMMU \d+): reg_base_addr ([0-9a-f]+) ver (\d+:\d+) cap ([0-9a-f]{1,16}) ecap ([0-9a-f]{1,16})\b/i;
const REGSET = /^\s*([A-Z][A-Z0-9_]*)\s+0x([0-9a-f]{1,5})\s+0x([0-9a-f]{8,16})\s*$/;
const QUEUE = /QI (HEAD|PRIOR): [^\n]*?qw0 = 0x([0-9a-f]+), qw1 = 0x([0-9a-f]+)/i;
const SUBMIT = /qi_submit: (\w+) (\w+): 0x([0-9a-f]+) 0x([0-9a-f]+) 0x([0-9a-f]+) 0x([0-9a-f]+)/i;
const COMMAND_ERROR = /smmu.*CMDQ error \(cons 0x([0-9a-f]{8})\)/i;
const PAGE_REQUEST = /Page request without PASID: ([0-9a-f]{8,16}) ([0-9a-f]{8,16})/i;

export class RegisterRecogniser implements Recogniser {
  take(line: Line, emit: Emit): boolean {
    return unit(line, emit) || regset(line, emit) || queue(line, emit);
  }
}

function named(line: Line, what: string, table: AnyLayout, quads: bigint[], kind: string): ExplainRecord {
  const record = structure(line, table, wordsOf(quads), table.bits, []);
  return { ...record, kind, summary: what === "" ? record.summary : `${what}  ${record.summary}` };
}

function unit(line: Line, emit: Emit): boolean {
  const match = UNIT.exec(line.text);
  if (match === null) return false;
  const [, name, , , cap, ecap] = match;
  emit(named(line, name, CAP, [BigInt(`0x${cap}`)], "vtd.register"));
  emit(named(line, name, ECAP, [BigInt(`0x${ecap}`)], "vtd.register"));
  return true;
}

function regset(line: Line, emit: Emit): boolean {
  const match = REGSET.exec(line.text);
  const table = match === null ? undefined : tableNamed(`vtd.${match[1]}`)?.table;
  if (match === null || table === undefined) return false;
  const offset = (table as { offset?: number }).offset;
  if (offset !== Number.parseInt(match[2], 16)) return false;
  emit(named(line, "", table, [BigInt(`0x${match[3]}`)], "vtd.register"));
  return true;
}

/** Words of queues that the kernel prints when something is wrong, or traces. */
function queue(line: Line, emit: Emit): boolean {
  const error = COMMAND_ERROR.exec(line.text);
  if (error !== null) {
    emit(named(line, "", CMDQ_CONS, [BigInt(`0x${error[1]}`)], "smmuv3.register"));
    return true;
  }
  const request = PAGE_REQUEST.exec(line.text);
  if (request !== null) {
    emit(
      named(
        line,
        "",
        PAGE_REQUEST_DESCRIPTOR,
        [BigInt(`0x${request[1]}`), BigInt(`0x${request[2]}`), 0n, 0n],
        "vtd.page-request",
      ),
    );
    return true;
  }
  const match = QUEUE.exec(line.text) ?? SUBMIT.exec(line.text);
  if (match === null) return false;
  const [low, high] = match.length === 4 ? [match[2], match[3]] : [match[3], match[4]];
  const quads = [BigInt(`0x${low}`), BigInt(`0x${high}`)];
  const type = Number((quads[0] & 15n) | ((quads[0] >> 5n) & 0x70n));
  if (!Object.hasOwn(DESCRIPTORS, type)) return false;
  const what = match.length === 4 ? `QI ${match[1].toLowerCase()}` : match[2];
  emit(named(line, what, DESCRIPTORS[type as keyof typeof DESCRIPTORS], quads, "vtd.descriptor"));
  return true;
}
