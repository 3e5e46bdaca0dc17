/** VT-d's walk by the steps of chapters 3 and 9: root, context, PASID directory and entry, then one or two stages of tables. */
import {
  CONTEXT_ENTRY,
  type FaultReason,
  LegacyFault,
  PASID_DIRECTORY_ENTRY,
  PASID_ENTRY,
  ROOT_ENTRY,
  RTADDR,
  ScalableFault,
  SM_CONTEXT_ENTRY,
  SM_ROOT_ENTRY,
} from "@iommukit/iommu-vtd";
import { hex } from "../hex.js";
import { wordsOf } from "../record.js";
import type { MemoryReader } from "./memory-image.js";
import { briefly, indexText, mapped, type Walk, type Walker, type WalkRequest, walked, writes } from "./step.js";
import { refuse } from "./vtd-rights.js";
import { firstStage, type Page, type SecondStage, secondStage } from "./vtd-stages.js";
import { stop } from "./vtd-stop.js";

const LEGACY = 0;
const SCALABLE = 1;

export interface VtdRequest extends WalkRequest {
  readonly rid: number;
  readonly pasid: number | undefined;
  /** PASID entries that are known without their directory: of this requester, undefined for one that is not there. */
  readonly pasidEntry?: ((pasid: number) => readonly bigint[] | undefined) | undefined;
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
  if (ROOT_ENTRY.P.get(root) === 0) stop(walker, "root entry not present", LegacyFault.ROOT_NOT_PRESENT);
  const context = walker.read(
    `context[${indexText(devfn)}]`,
    ROOT_ENTRY.CTP.getBig(root) + BigInt(devfn * 16),
    CONTEXT_ENTRY,
    (w) => briefly(CONTEXT_ENTRY, w, ["P", "FPD"], ["TT", "SSPTPTR", "AW", "DID"]),
  );
  if (CONTEXT_ENTRY.P.get(context) === 0) stop(walker, "context entry not present", LegacyFault.CONTEXT_NOT_PRESENT);
  if (CONTEXT_ENTRY.TT.decode(context) === "passThrough") return walker.end("pass-through: no tables", request.address);
  // One reason for a missing page and a missing right.
  const lack = writes(request) ? LegacyFault.WRITE_DENIED : LegacyFault.READ_DENIED;
  const page = secondStage(
    walker,
    {
      start: CONTEXT_ENTRY.SSPTPTR.getBig(context),
      aw: CONTEXT_ENTRY.AW.get(context),
      prefix: "",
      beyond: LegacyFault.BEYOND_MGAW,
      absent: lack,
    },
    request.address,
  );
  return end(walker, request, page, lack);
}

function scalable(walker: Walker, table: bigint, request: VtdRequest): Walk {
  const [bus, devfn] = [request.rid >>> 8, request.rid & 0xff];
  const upper = devfn >= 0x80;
  const root = walker.read(`root[${indexText(bus)}]`, table + BigInt(bus * 16), SM_ROOT_ENTRY, (w) =>
    briefly(SM_ROOT_ENTRY, w, ["LP", "UP"], ["LCTP", "UCTP"]),
  );
  if ((upper ? SM_ROOT_ENTRY.UP : SM_ROOT_ENTRY.LP).get(root) === 0)
    stop(walker, "root entry not present", ScalableFault.ROOT_NOT_PRESENT);
  const contexts = (upper ? SM_ROOT_ENTRY.UCTP : SM_ROOT_ENTRY.LCTP).getBig(root);
  const context = walker.read(
    `context[${indexText(devfn)}]`,
    contexts + BigInt((devfn & 0x7f) * 32),
    SM_CONTEXT_ENTRY,
    (w) => briefly(SM_CONTEXT_ENTRY, w, ["P", "DTE", "PASIDE", "PRE"], ["PDTS", "PASIDDIRPTR", "RID_PASID"]),
  );
  if (SM_CONTEXT_ENTRY.P.get(context) === 0)
    stop(walker, "context entry not present", ScalableFault.CONTEXT_NOT_PRESENT);
  if (request.pasid !== undefined && SM_CONTEXT_ENTRY.PASIDE.get(context) === 0)
    stop(walker, "PASIDE is clear", ScalableFault.PASIDE_CLEAR);
  const pasid = request.pasid ?? SM_CONTEXT_ENTRY.RID_PASID.get(context);
  const slot = pasid >>> 6;
  if (slot >= 1 << (SM_CONTEXT_ENTRY.PDTS.get(context) + 7))
    stop(walker, "the PASID is outside of the directory", ScalableFault.PASID_TOO_LARGE);
  const name = `PASID entry[${indexText(pasid & 63)}]`;
  const meaning = (w: Int32Array) =>
    briefly(PASID_ENTRY, w, ["P"], ["PGTT", "AW", "SSPTPTR", "DID", "FSPM", "FSPTPTR"]);
  if (request.pasidEntry !== undefined) {
    const known = request.pasidEntry(pasid);
    if (known === undefined)
      stop(walker, `the dump lists no entry of PASID ${hex(pasid)}`, ScalableFault.PASID_NOT_PRESENT);
    return byType(walker, walker.given(name, "unknown", known, PASID_ENTRY, meaning), request);
  }
  const directory = walker.read(
    `PASID directory[${indexText(slot)}]`,
    SM_CONTEXT_ENTRY.PASIDDIRPTR.getBig(context) + BigInt(slot * 8),
    PASID_DIRECTORY_ENTRY,
    (w) => briefly(PASID_DIRECTORY_ENTRY, w, ["P", "FPD"], ["SMPTBLPTR"]),
  );
  if (PASID_DIRECTORY_ENTRY.P.get(directory) === 0)
    stop(walker, "directory entry not present", ScalableFault.DIRECTORY_NOT_PRESENT);
  const at = PASID_DIRECTORY_ENTRY.SMPTBLPTR.getBig(directory) + BigInt((pasid & 63) * 64);
  const entry = walker.read(name, at, PASID_ENTRY, meaning);
  if (PASID_ENTRY.P.get(entry) === 0) stop(walker, "PASID entry not present", ScalableFault.PASID_NOT_PRESENT);
  return byType(walker, entry, request);
}

function byType(walker: Walker, entry: Int32Array, request: VtdRequest): Walk {
  const type = PASID_ENTRY.PGTT.decode(entry);
  if (request.access === "execute" && PASID_ENTRY.ERE.get(entry) === 0)
    stop(walker, "ERE = 0: no execute requests", ScalableFault.ERE_CLEAR);
  if (request.privileged === true && PASID_ENTRY.SRE.get(entry) === 0)
    stop(walker, "SRE = 0: no supervisor requests", ScalableFault.SRE_CLEAR);
  if (type === "passThrough") return walker.end("pass-through: no tables", request.address);
  const second: SecondStage = {
    start: PASID_ENTRY.SSPTPTR.getBig(entry),
    aw: PASID_ENTRY.AW.get(entry),
    prefix: type === "nested" ? "SS " : "",
    beyond: ScalableFault.BEYOND_SECOND_STAGE,
    absent: ScalableFault.SECOND_STAGE_DENIED,
  };
  if (type === "secondStage") return end(walker, request, secondStage(walker, second, request.address));
  if (type === "firstStage") return end(walker, request, firstStage(walker, entry, request));
  if (type === "nested") return end(walker, request, firstStage(walker, entry, request, second));
  return stop(walker, `PGTT = ${type} is no translation type`, ScalableFault.PASID_INVALID);
}

function end(walker: Walker, request: VtdRequest, page: Page, lack?: FaultReason): Walk {
  refuse(walker, page, request, lack);
  return mapped(walker, request.address, page.address, page.shift);
}
