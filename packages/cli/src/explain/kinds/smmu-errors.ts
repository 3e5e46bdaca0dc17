/**
 * What Linux prints when an SMMUv3 reports a global error, and the command that it then steps over: a line and two words, by the
 * printing SMMU's name.
 */
import { COMMAND, COMMANDS, GERROR } from "@iommukit/iommu-smmuv3";
import { hex } from "../hex.js";
import type { Emit, Line, Recogniser } from "../recogniser.js";
import { type ExplainRecord, partOf, reservedNotes, wordsOf } from "../record.js";

const GLOBAL = /(arm-smmu-v3(?: \S+?)?): unexpected global error reported \(0x([0-9a-f]{8})\)/i;
const SKIPPED = /(arm-smmu-v3(?: \S+?)?): skipping command in error state:\s*$/i;
const WORD = /(arm-smmu-v3(?: \S+?)?):(?:\s|\\x09|'x09|#011)*0x([0-9a-f]{16})\s*$/i;

export class SmmuErrorRecogniser implements Recogniser {
  #skipped:
    | { readonly unit: string; readonly line: number; readonly raw: string[]; readonly quads: bigint[] }
    | undefined;

  take(line: Line, emit: Emit): boolean {
    const { text } = line;
    if (!text.includes("arm-smmu-v3")) return false;
    const error = GLOBAL.exec(text);
    if (error !== null) {
      emit(globalError(line, error[1], Number.parseInt(error[2], 16)));
      return true;
    }
    const skipped = SKIPPED.exec(text);
    if (skipped !== null) {
      this.#skipped = { unit: skipped[1], line: line.number, raw: [text], quads: [] };
      return true;
    }
    const word = WORD.exec(text);
    const pending = this.#skipped;
    if (word === null || pending?.unit !== word[1]) return false;
    pending.quads.push(BigInt(`0x${word[2]}`));
    pending.raw.push(text);
    if (pending.quads.length === 2) {
      this.#skipped = undefined;
      emit(command(pending));
    }
    return true;
  }
}

function globalError(line: Line, unit: string, value: number): ExplainRecord {
  const words = Int32Array.of(value);
  const active = GERROR.fields.filter((field) => field.spec.kind === "bit" && field.get(words) === 1);
  return {
    kind: "smmuv3.global-error",
    line: line.number,
    raw: [line.text],
    summary: `SMMUv3 global error  ${unit}  ${hex(value, 8)}  ${active.map(({ name }) => name).join(" ") || "no bit that is known"}`,
    facts: { iommu: "smmuv3", name: active.at(0)?.name },
    parts: [partOf(GERROR, words)],
    notes: reservedNotes(GERROR, words),
  };
}

interface Skipped {
  readonly unit: string;
  readonly line: number;
  readonly raw: readonly string[];
  readonly quads: readonly bigint[];
}

function command({ unit, line, raw, quads }: Skipped): ExplainRecord {
  const words = wordsOf(quads);
  const opcode = Number(quads[0] & 0xffn);
  const table = COMMANDS.get(opcode);
  const name = table?.name ?? `opcode ${hex(opcode, 2)} is no command`;
  return {
    kind: "smmuv3.skipped-command",
    line,
    raw,
    summary: `SMMUv3 command in error  ${unit}  ${quads.map((value) => hex(value, 16)).join(" ")}  ${name}`,
    facts: { iommu: "smmuv3", name: table?.name },
    parts: [partOf(table ?? COMMAND, words)],
    notes: table === undefined ? [] : reservedNotes(table, words),
  };
}
