/** VT-d's walk by the steps of chapters 3 and 9: root, context, PASID directory and entry, then one or two stages of tables. */
import {
  bitsOfLevels,
  CONTEXT_ENTRY,
  FIRST_STAGE_ENTRY,
  levelsOf,
  PASID_DIRECTORY_ENTRY,
  PASID_ENTRY,
  ROOT_ENTRY,
  RTADDR,
  SECOND_STAGE_ENTRY,
  SM_CONTEXT_ENTRY,
  SM_ROOT_ENTRY,
} from "@iommukit/iommu-vtd";
import { hex } from "../hex.js";
import { wordsOf } from "../record.js";
import type { MemoryReader } from "./memory-image.js";
import { briefly, indexText, type Walk, type Walker, walked } from "./step.js";

const LEGACY = 0;
const SCALABLE = 1;

export interface VtdRequest {
  readonly rid: number;
  readonly pasid: number | undefined;
  readonly address: bigint;
  readonly access: "read" | "write" | undefined;
}

/** @param rtaddr value of RTADDR_REG: table and mode */
export function walkVtd(memory: MemoryReader, rtaddr: bigint, request: VtdRequest): Walk {
  const words = wordsOf([rtaddr]);
  const mode = RTADDR.TTM.get(words);
  const table = RTADDR.RTA.getBig(words);
  return walked(memory, (walker) => {
    if (mode === LEGACY) return legacy(walker, table, request);
    if (mode === SCALABLE) return scalable(walker, table, request);
    return walker.end(`RTADDR.TTM = ${RTADDR.TTM.decode(words)}: every request is refused`);
  });
}

function legacy(walker: Walker, table: bigint, request: VtdRequest): Walk {
  const [bus, devfn] = [request.rid >>> 8, request.rid & 0xff];
  const root = walker.read(`root[${indexText(bus)}]`, table + BigInt(bus * 16), ROOT_ENTRY, (w) =>
    briefly(ROOT_ENTRY, w, ["P"], ["CTP"]),
  );
  if (ROOT_ENTRY.P.get(root) === 0) return walker.end("stops: root entry not present (fault 0x01)");
  const context = walker.read(
    `context[${indexText(devfn)}]`,
    ROOT_ENTRY.CTP.getBig(root) + BigInt(devfn * 16),
    CONTEXT_ENTRY,
    (w) => briefly(CONTEXT_ENTRY, w, ["P", "FPD"], ["TT", "SSPTPTR", "AW", "DID"]),
  );
  if (CONTEXT_ENTRY.P.get(context) === 0) return walker.end("stops: context entry not present (fault 0x02)");
  if (CONTEXT_ENTRY.TT.decode(context) === "passThrough") return walker.end("pass-through: no tables", request.address);
  return secondStage(walker, CONTEXT_ENTRY.SSPTPTR.getBig(context), CONTEXT_ENTRY.AW.get(context), request);
}

function scalable(walker: Walker, table: bigint, request: VtdRequest): Walk {
  const [bus, devfn] = [request.rid >>> 8, request.rid & 0xff];
  const upper = devfn >= 0x80;
  const root = walker.read(`root[${indexText(bus)}]`, table + BigInt(bus * 16), SM_ROOT_ENTRY, (w) =>
    briefly(SM_ROOT_ENTRY, w, ["LP", "UP"], ["LCTP", "UCTP"]),
  );
  if ((upper ? SM_ROOT_ENTRY.UP : SM_ROOT_ENTRY.LP).get(root) === 0)
    return walker.end("stops: root entry not present (fault 0x39)");
  const contexts = (upper ? SM_ROOT_ENTRY.UCTP : SM_ROOT_ENTRY.LCTP).getBig(root);
  const context = walker.read(
    `context[${indexText(devfn)}]`,
    contexts + BigInt((devfn & 0x7f) * 32),
    SM_CONTEXT_ENTRY,
    (w) => briefly(SM_CONTEXT_ENTRY, w, ["P", "DTE", "PASIDE", "PRE"], ["PDTS", "PASIDDIRPTR", "RID_PASID"]),
  );
  if (SM_CONTEXT_ENTRY.P.get(context) === 0) return walker.end("stops: context entry not present (fault 0x41)");
  if (request.pasid !== undefined && SM_CONTEXT_ENTRY.PASIDE.get(context) === 0)
    return walker.end("stops: PASIDE is clear (fault 0x45)");
  const pasid = request.pasid ?? SM_CONTEXT_ENTRY.RID_PASID.get(context);
  const slot = pasid >>> 6;
  if (slot >= 1 << (SM_CONTEXT_ENTRY.PDTS.get(context) + 7))
    return walker.end("stops: the PASID is outside of the directory (fault 0x46)");
  const directory = walker.read(
    `PASID directory[${indexText(slot)}]`,
    SM_CONTEXT_ENTRY.PASIDDIRPTR.getBig(context) + BigInt(slot * 8),
    PASID_DIRECTORY_ENTRY,
    (w) => briefly(PASID_DIRECTORY_ENTRY, w, ["P", "FPD"], ["SMPTBLPTR"]),
  );
  if (PASID_DIRECTORY_ENTRY.P.get(directory) === 0)
    return walker.end("stops: directory entry not present (fault 0x51)");
  const entry = walker.read(
    `PASID entry[${indexText(pasid & 63)}]`,
    PASID_DIRECTORY_ENTRY.SMPTBLPTR.getBig(directory) + BigInt((pasid & 63) * 64),
    PASID_ENTRY,
    (w) => briefly(PASID_ENTRY, w, ["P"], ["PGTT", "AW", "SSPTPTR", "DID", "FSPM", "FSPTPTR"]),
  );
  if (PASID_ENTRY.P.get(entry) === 0) return walker.end("stops: PASID entry not present (fault 0x59)");
  return byType(walker, entry, request);
}

function byType(walker: Walker, entry: Int32Array, request: VtdRequest): Walk {
  const type = PASID_ENTRY.PGTT.decode(entry);
  if (type === "passThrough") return walker.end("pass-through: no tables", request.address);
  if (type === "secondStage")
    return secondStage(walker, PASID_ENTRY.SSPTPTR.getBig(entry), PASID_ENTRY.AW.get(entry), request);
  if (type === "firstStage") return firstStage(walker, entry, request);
  return walker.end(
    `stops: PGTT = ${type}; the addresses of nested tables have to be translated themselves, which this walk leaves out`,
  );
}

function firstStage(walker: Walker, entry: Int32Array, { address, access }: VtdRequest): Walk {
  const levels = PASID_ENTRY.FSPM.get(entry) === 1 ? 5 : 4;
  const top = BigInt.asUintN(64, BigInt.asIntN(bitsOfLevels(levels), address));
  if (top !== address) return walker.end("stops: the address is not canonical (fault 0x80)");
  let table = PASID_ENTRY.FSPTPTR.getBig(entry);
  for (let level = levels; ; level--) {
    const shift = BigInt(12 + 9 * (level - 1));
    const index = Number((address >> shift) & 0x1ffn);
    const at = table + BigInt(index * 8);
    const words = walker.read(`L${level}[${indexText(index)}]`, at, FIRST_STAGE_ENTRY, (w) =>
      briefly(FIRST_STAGE_ENTRY, w, ["P", "RW", "US", "A", "D"], ["ADDR"]),
    );
    if (FIRST_STAGE_ENTRY.P.get(words) === 0) return walker.end(`stops: level ${level} entry not present (fault 0x71)`);
    if (access === "write" && FIRST_STAGE_ENTRY.RW.get(words) === 0)
      return walker.end(`stops: level ${level} entry is read-only (fault 0x85)`);
    table = FIRST_STAGE_ENTRY.ADDR.getBig(words);
    if (level === 1 || (level <= 3 && FIRST_STAGE_ENTRY.PS.get(words) === 1))
      return mapped(walker, table, shift, address);
  }
}

function secondStage(walker: Walker, start: bigint, aw: number, { address, access }: VtdRequest): Walk {
  const levels = levelsOf(aw);
  if (address >> BigInt(bitsOfLevels(levels)) !== 0n)
    return walker.end(`stops: the address has more than ${bitsOfLevels(levels)} bits (fault 0x04)`);
  let table = start;
  for (let level = levels; ; level--) {
    const shift = BigInt(12 + 9 * (level - 1));
    const index = Number((address >> shift) & 0x1ffn);
    const at = table + BigInt(index * 8);
    const words = walker.read(`L${level}[${indexText(index)}]`, at, SECOND_STAGE_ENTRY, (w) =>
      briefly(SECOND_STAGE_ENTRY, w, ["R", "W"], ["ADDR"]),
    );
    const right = access === "write" ? SECOND_STAGE_ENTRY.W : SECOND_STAGE_ENTRY.R;
    if (right.get(words) === 0) {
      const empty = SECOND_STAGE_ENTRY.R.get(words) === 0 && SECOND_STAGE_ENTRY.W.get(words) === 0;
      const fault = access === "write" ? "0x05" : "0x06";
      return walker.end(
        `stops: level ${level} entry ${empty ? "is not present" : `does not allow the ${access ?? "read"}`} (fault ${fault}; 0x79 in scalable mode)`,
      );
    }
    table = SECOND_STAGE_ENTRY.ADDR.getBig(words);
    if (level === 1 || (level <= 3 && SECOND_STAGE_ENTRY.PS.get(words) === 1))
      return mapped(walker, table, shift, address);
  }
}

function mapped(walker: Walker, base: bigint, shift: bigint, address: bigint): Walk {
  const mask = (1n << shift) - 1n;
  const output = (base & ~mask) | (address & mask);
  return walker.end(`mapped: ${hex(address)} -> ${hex(output)}, ${hex(mask + 1n)} bytes`, output);
}
