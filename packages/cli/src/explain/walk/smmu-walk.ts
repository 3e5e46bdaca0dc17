/** SMMUv3's walk: stream table, context descriptor (each linear or 2-level), then stage 1, stage 2, or one in the other. */
import {
  CD,
  CD_SPLIT,
  L1CD,
  L1STD,
  STE,
  STE_CONFIG,
  STE_S1FMT,
  STRTAB_BASE,
  STRTAB_BASE_CFG,
} from "@iommukit/iommu-smmuv3";
import { wordsOf } from "../record.js";
import type { MemoryReader } from "./memory-image.js";
import { type Place, stage1, stage2 } from "./smmu-stages.js";
import { briefly, indexText, mapped, type Walk, type Walker, type WalkRequest, walked } from "./step.js";

export interface SmmuRequest extends WalkRequest {
  readonly sid: number;
  readonly ssid: number | undefined;
}

/** The fetch of a table or a CD: a privileged read. */
const FETCH = { access: "read", privileged: true } as const;

/** @param base value of STRTAB_BASE @param config value of STRTAB_BASE_CFG */
export function walkSmmu(memory: MemoryReader, base: bigint, config: number, request: SmmuRequest): Walk {
  return walked(memory, (walker) =>
    byConfig(walker, streamTableEntry(walker, base, Int32Array.of(config), request.sid), request),
  );
}

function streamTableEntry(walker: Walker, base: bigint, config: Int32Array, sid: number): Int32Array {
  const table = STRTAB_BASE.ADDR.getBig(wordsOf([base]));
  if (sid >= 2 ** STRTAB_BASE_CFG.LOG2SIZE.get(config))
    walker.stop("stops: the StreamID is outside of the stream table (C_BAD_STREAMID)");
  const read = (at: bigint, index: number) =>
    walker.read(`STE[${indexText(index)}]`, at + BigInt(index * 64), STE, (w) =>
      briefly(STE, w, ["V"], ["Config", "S1Fmt", "S1ContextPtr", "S1CDMax", "S1DSS", "EATS", "S2TTB"]),
    );
  if (STRTAB_BASE_CFG.FMT.get(config) === 0) return read(table, sid);
  const split = STRTAB_BASE_CFG.SPLIT.get(config);
  const index = sid >>> split;
  const level1 = walker.read(`L1STD[${indexText(index)}]`, table + BigInt(index * 8), L1STD, (w) =>
    briefly(L1STD, w, [], ["Span", "L2Ptr"]),
  );
  const span = L1STD.Span.get(level1);
  const inner = sid & ((1 << split) - 1);
  if (span === 0 || inner >= 2 ** (span - 1))
    walker.stop("stops: no level 2 table holds the StreamID (C_BAD_STREAMID)");
  return read(L1STD.L2Ptr.getBig(level1), inner);
}

function byConfig(walker: Walker, ste: Int32Array, request: SmmuRequest): Walk {
  if (STE.V.get(ste) === 0) walker.stop("stops: STE.V = 0 (C_BAD_STE)");
  const config = STE.Config.get(ste);
  if ((config & STE_CONFIG.bypass) === 0) walker.stop("stops: STE.Config = abort, without an event");
  const first = (config & STE_CONFIG.s1) === STE_CONFIG.s1;
  if (!first && request.ssid !== undefined) walker.stop("stops: a SubstreamID, and no stage 1 (C_BAD_SUBSTREAMID)");
  if (config === STE_CONFIG.bypass) return walker.end("bypass: no tables", request.address);
  const through = (config & STE_CONFIG.s2) === STE_CONFIG.s2 ? stage2(walker, ste, first) : undefined;
  const place = (address: bigint) => through?.(address, FETCH).address ?? address;
  const inner = first ? throughContext(walker, ste, request, through === undefined ? "" : "S1 ", place) : undefined;
  if (through === undefined && inner === undefined) return walker.end("bypass: S1DSS, no SubstreamID", request.address);
  if (inner === undefined && request.address >> 52n !== 0n)
    walker.stop("stops: no stage 1, and more than 52 bits (F_ADDR_SIZE)");
  const outer = through?.(inner?.address ?? request.address, request);
  const { address, shift } = smaller(inner, outer);
  return mapped(walker, request.address, address, shift);
}

/** Both stages' pages overlap in the smaller one; the address is the outer's. */
function smaller(inner: Place | undefined, outer: Place | undefined): Place {
  const last = outer ?? inner;
  if (last === undefined) throw new Error("neither stage translates");
  return { address: last.address, shift: Math.min(inner?.shift ?? 64, outer?.shift ?? 64) };
}

/** Stage 1; undefined when STE.S1DSS lets the transaction pass it by. */
function throughContext(
  walker: Walker,
  ste: Int32Array,
  request: SmmuRequest,
  prefix: string,
  place: (address: bigint) => bigint,
): Place | undefined {
  const max = STE.S1CDMax.get(ste);
  const ssid = request.ssid ?? 0;
  if (request.ssid !== undefined && (max === 0 || ssid >= 2 ** max))
    walker.stop("stops: the SubstreamID is outside of the CD table (C_BAD_SUBSTREAMID)");
  const rule = max > 0 ? STE.S1DSS.decode(ste) : "ssid0";
  if (request.ssid === undefined && rule === "terminate")
    walker.stop("stops: S1DSS = terminate, no SubstreamID (F_STREAM_DISABLED)");
  if (request.ssid === undefined && rule === "bypass") return undefined;
  if (request.ssid === 0 && rule === "ssid0" && max > 0)
    walker.stop("stops: S1DSS = ssid0 keeps SubstreamID 0 for requests without one (F_STREAM_DISABLED)");
  const cd = contextDescriptor(walker, ste, ssid, max, place);
  if (CD.V.get(cd) === 0) walker.stop("stops: CD.V = 0 (C_BAD_CD)");
  return stage1(walker, cd, request, { prefix, place });
}

function contextDescriptor(
  walker: Walker,
  ste: Int32Array,
  ssid: number,
  max: number,
  place: (address: bigint) => bigint,
): Int32Array {
  const table = STE.S1ContextPtr.getBig(ste);
  const format = STE.S1Fmt.get(ste);
  const read = (at: bigint, index: number) =>
    walker.read(`CD[${indexText(index)}]`, place(at + BigInt(index * 64)), CD, (w) =>
      briefly(CD, w, ["V", "EPD0", "EPD1", "AA64", "S", "R"], ["T0SZ", "TG0", "IPS", "ASID", "TTB0", "TTB1"]),
    );
  if (max === 0 || format === STE_S1FMT.linear) return read(table, ssid);
  const split = format === STE_S1FMT.twoLevel4K ? CD_SPLIT.twoLevel4K : CD_SPLIT.twoLevel64K;
  const index = ssid >>> split;
  const level1 = walker.read(`L1CD[${indexText(index)}]`, place(table + BigInt(index * 8)), L1CD, (w) =>
    briefly(L1CD, w, ["V"], ["L2Ptr"]),
  );
  if (L1CD.V.get(level1) === 0) walker.stop("stops: L1CD.V = 0 (C_BAD_SUBSTREAMID)");
  return read(L1CD.L2Ptr.getBig(level1), ssid & ((1 << split) - 1));
}
