/** One VT-d fault, from whatever text it was printed in: facts, the fault record that says the same, the summary. */
import { FRCD, faultReason } from "@iommukit/iommu-vtd";
import { hex, ridOf } from "../hex.js";
import { type ExplainRecord, type Facts, partOf } from "../record.js";

export interface VtdFault {
  readonly line: number;
  readonly raw: readonly string[];
  readonly device: string;
  readonly access: "read" | "write" | "atomic" | undefined;
  readonly pasid: number | undefined;
  /** Page address; of a blocked interrupt undefined. */
  readonly address: bigint | undefined;
  /** Interrupt index. */
  readonly index: number | undefined;
  /** Undefined when the input holds only the first of two lines. */
  readonly code: number | undefined;
  /** What was printed beside the code. */
  readonly text: string;
  readonly notes?: readonly string[];
}

export function vtdFault(fault: VtdFault): ExplainRecord {
  const { code, device, pasid, address, index, access } = fault;
  const reason = code === undefined ? undefined : faultReason(code);
  const facts: Facts = {
    iommu: "vtd",
    code,
    name: reason?.condition,
    device,
    sid: ridOf(device),
    pasid,
    address,
    access,
    interrupt: index !== undefined,
    stage: stageOf(reason?.condition),
  };
  const what = index === undefined ? `${access ?? "access"} ${hex(address ?? 0n)}` : `interrupt index ${hex(index)}`;
  const why =
    code === undefined
      ? "reason not in the input"
      : `${hex(code, 2)} ${reason?.condition ?? "unassigned"}: ${reason?.meaning ?? "no such fault reason in VT-d revision 5.1"}`;
  return {
    kind: index === undefined ? "vtd.dma-fault" : "vtd.interrupt-fault",
    line: fault.line,
    raw: fault.raw,
    summary: `VT-d fault  ${device}${pasid === undefined ? "" : ` PASID ${hex(pasid)}`}  ${what}  ${why}`,
    facts,
    parts: code === undefined ? [] : [partOf(FRCD, recordWords(fault, code))],
    notes: [...(fault.notes ?? []), ...textNotes(fault.text, reason?.linux ? reason.meaning : undefined)],
  };
}

/** The fault record that makes Linux and Xen print such a line; what the line does not say is zero. */
function recordWords({ device, pasid, address, index, access }: VtdFault, code: number): Int32Array {
  const fi = index === undefined ? (address ?? 0n) & ~0xfffn : BigInt(index) << 48n;
  return FRCD.encode({
    FI: BigInt.asUintN(64, fi),
    SID: ridOf(device),
    FR: code,
    PP: pasid !== undefined,
    PV: pasid ?? 0,
    T1: access !== "write",
    T2: access === "atomic",
    F: true,
  });
}

function stageOf(condition: string | undefined): 1 | 2 | undefined {
  if (condition?.startsWith("SFS")) return 1;
  return condition?.startsWith("SSS") || condition?.startsWith("LSS") || condition?.startsWith("LGN") ? 2 : undefined;
}

function textNotes(text: string, linux: string | undefined): string[] {
  if (text === "" || linux === undefined || text.toLowerCase().startsWith(linux.toLowerCase().slice(0, 20))) return [];
  return [`the line calls it "${text}"; Linux's text for this code is "${linux}"`];
}
