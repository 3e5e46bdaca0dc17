/** SMMUv3's walk: stream table (linear or 2-level), context descriptor, stage 1 tables of the 4 KiB granule. Stage 2 is left out. */
import {
  CD,
  CD_SPLIT,
  L1CD,
  L1STD,
  S1_DESCRIPTOR,
  STE,
  STE_CONFIG,
  STE_S1FMT,
  STRTAB_BASE,
  STRTAB_BASE_CFG,
  TABLE_DESCRIPTOR,
} from "@iommukit/iommu-smmuv3";
import { hex } from "../hex.js";
import { wordsOf } from "../record.js";
import type { MemoryReader } from "./memory-image.js";
import { briefly, indexText, type Walk, type Walker, walked } from "./step.js";

export interface SmmuRequest {
  readonly sid: number;
  readonly ssid: number | undefined;
  readonly address: bigint;
  readonly access: "read" | "write" | undefined;
}

/** @param base value of STRTAB_BASE @param config value of STRTAB_BASE_CFG */
export function walkSmmu(memory: MemoryReader, base: bigint, config: number, request: SmmuRequest): Walk {
  return walked(memory, (walker) => {
    const ste = streamTableEntry(walker, base, Int32Array.of(config), request.sid);
    return typeof ste === "string" ? walker.end(ste) : byConfig(walker, ste, request);
  });
}

function streamTableEntry(walker: Walker, base: bigint, config: Int32Array, sid: number): Int32Array | string {
  const table = STRTAB_BASE.ADDR.getBig(wordsOf([base]));
  if (sid >= 2 ** STRTAB_BASE_CFG.LOG2SIZE.get(config))
    return "stops: the StreamID is outside of the stream table (C_BAD_STREAMID)";
  const read = (at: bigint, index: number) =>
    walker.read(`STE[${indexText(index)}]`, at + BigInt(index * 64), STE, (w) =>
      briefly(STE, w, ["V"], ["Config", "S1Fmt", "S1ContextPtr", "S1CDMax", "S1DSS", "EATS"]),
    );
  if (STRTAB_BASE_CFG.FMT.get(config) === 0) return read(table, sid);
  const split = STRTAB_BASE_CFG.SPLIT.get(config);
  const index = sid >>> split;
  const level1 = walker.read(`L1STD[${indexText(index)}]`, table + BigInt(index * 8), L1STD, (w) =>
    briefly(L1STD, w, [], ["Span", "L2Ptr"]),
  );
  const span = L1STD.Span.get(level1);
  const inner = sid & ((1 << split) - 1);
  if (span === 0 || inner >= 2 ** (span - 1)) return "stops: no level 2 table holds the StreamID (C_BAD_STREAMID)";
  return read(L1STD.L2Ptr.getBig(level1), inner);
}

function byConfig(walker: Walker, ste: Int32Array, request: SmmuRequest): Walk {
  if (STE.V.get(ste) === 0) return walker.end("stops: STE.V = 0 (C_BAD_STE)");
  const config = STE.Config.get(ste);
  if (config === STE_CONFIG.abort) return walker.end("stops: STE.Config = abort, without an event");
  if (config === STE_CONFIG.bypass) return walker.end("bypass: no tables", request.address);
  if (config !== STE_CONFIG.s1) return walker.end("stops: stage 2 is enabled; its tables are left out of this walk");
  const max = STE.S1CDMax.get(ste);
  const ssid = request.ssid ?? 0;
  if (request.ssid !== undefined && ssid >= 2 ** max)
    return walker.end("stops: the SubstreamID is outside of the CD table (C_BAD_SUBSTREAMID)");
  if (request.ssid === undefined && max > 0) {
    const rule = STE.S1DSS.decode(ste);
    if (rule === "terminate") return walker.end("stops: S1DSS = terminate, no SubstreamID (F_STREAM_DISABLED)");
    if (rule === "bypass") return walker.end("bypass: S1DSS, no SubstreamID", request.address);
  }
  const cd = contextDescriptor(walker, ste, ssid, max);
  if (typeof cd === "string") return walker.end(cd);
  if (CD.V.get(cd) === 0) return walker.end("stops: CD.V = 0 (C_BAD_CD)");
  return stage1(walker, cd, request);
}

function contextDescriptor(walker: Walker, ste: Int32Array, ssid: number, max: number): Int32Array | string {
  const table = STE.S1ContextPtr.getBig(ste);
  const format = STE.S1Fmt.get(ste);
  const read = (at: bigint, index: number) =>
    walker.read(`CD[${indexText(index)}]`, at + BigInt(index * 64), CD, (w) =>
      briefly(CD, w, ["V", "EPD0", "EPD1", "AA64", "S", "R"], ["T0SZ", "TG0", "IPS", "ASID", "TTB0", "TTB1"]),
    );
  if (max === 0 || format === STE_S1FMT.linear) return read(table, ssid);
  const split = format === STE_S1FMT.twoLevel4K ? CD_SPLIT.twoLevel4K : CD_SPLIT.twoLevel64K;
  const index = ssid >>> split;
  const level1 = walker.read(`L1CD[${indexText(index)}]`, table + BigInt(index * 8), L1CD, (w) =>
    briefly(L1CD, w, ["V"], ["L2Ptr"]),
  );
  if (L1CD.V.get(level1) === 0) return "stops: L1CD.V = 0 (C_BAD_SUBSTREAMID)";
  return read(L1CD.L2Ptr.getBig(level1), ssid & ((1 << split) - 1));
}

function stage1(walker: Walker, cd: Int32Array, { address, access }: SmmuRequest): Walk {
  const high = address >> 63n === 1n;
  const [size, disabled, granule, ttb] = high
    ? [CD.T1SZ.get(cd), CD.EPD1.get(cd), CD.TG1.decode(cd), CD.TTB1.getBig(cd)]
    : [CD.T0SZ.get(cd), CD.EPD0.get(cd), CD.TG0.decode(cd), CD.TTB0.getBig(cd)];
  const bits = 64 - size;
  if (disabled === 1) return walker.end(`stops: EPD${high ? 1 : 0} = 1, walks are disabled (F_TRANSLATION)`);
  if (granule !== "granule4K") return walker.end(`stops: ${granule}; only the 4 KiB granule is walked`);
  const outside = high ? BigInt.asUintN(64, ~address) : address;
  if (outside >> BigInt(bits) !== 0n)
    return walker.end(`stops: the address is outside of ${bits} bits (F_TRANSLATION)`);
  let table = ttb;
  for (let level = 4 - Math.ceil((bits - 12) / 9); ; level++) {
    const shift = BigInt(12 + 9 * (3 - level));
    const index = Number((BigInt.asUintN(bits, address) >> shift) & 0x1ffn);
    const words = walker.read(`L${level}[${indexText(index)}]`, table + BigInt(index * 8), S1_DESCRIPTOR, (w) =>
      describe(w, level),
    );
    const type = S1_DESCRIPTOR.Type.decode(words);
    const leaf = level === 3 ? type === "tableOrPage" : type === "block" && level > 0;
    if (!leaf && type !== "tableOrPage")
      return walker.end(`stops: level ${level} descriptor is ${type} (F_TRANSLATION)`);
    if (!leaf) table = TABLE_DESCRIPTOR.NextLevelTable.getBig(words);
    else return verdict(walker, words, shift, address, access);
  }
}

function describe(words: Int32Array, level: number): string {
  const type = S1_DESCRIPTOR.Type.decode(words);
  if (type === "invalid" || type === "reserved") return String(type);
  if (type === "tableOrPage" && level < 3) return `table ${briefly(TABLE_DESCRIPTOR, words, [], ["NextLevelTable"])}`;
  return `${level === 3 ? "page" : "block"} AP=${S1_DESCRIPTOR.AP.decode(words)} ${briefly(S1_DESCRIPTOR, words, ["AF", "nG", "PXN", "UXN"], ["OutputAddress"])}`;
}

function verdict(
  walker: Walker,
  words: Int32Array,
  shift: bigint,
  address: bigint,
  access: SmmuRequest["access"],
): Walk {
  if (S1_DESCRIPTOR.AF.get(words) === 0) return walker.end("stops: AF = 0 (F_ACCESS unless CD.HA or CD.AFFD)");
  const readOnly =
    String(S1_DESCRIPTOR.AP.decode(words)).endsWith("ReadOnly") || S1_DESCRIPTOR.AP.decode(words) === "readOnly";
  if (access === "write" && readOnly && S1_DESCRIPTOR.DBM.get(words) === 0)
    return walker.end("stops: read-only (F_PERMISSION)");
  const mask = (1n << shift) - 1n;
  const output = (S1_DESCRIPTOR.OutputAddress.getBig(words) & ~mask) | (address & mask);
  return walker.end(`mapped: ${hex(address)} -> ${hex(output)}, ${hex(mask + 1n)} bytes`, output);
}
