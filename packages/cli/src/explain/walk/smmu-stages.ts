/** SMMUv3's two stages by STE and CD: which tables they name, and what their leaves permit. IHI 0070 5.2, 5.4; Arm ARM D8.4. */
import { CD, S1_DESCRIPTOR, S2_DESCRIPTOR, STE } from "@iommukit/iommu-smmuv3";
import {
  type ArmTable,
  GRANULES,
  type Leaf,
  OUTPUT_BITS,
  outsideOf,
  stage1StartLevel,
  stage2StartLevel,
  walkArmTable,
} from "./arm-tables.js";
import { type Walker, type WalkRequest, within, writes } from "./step.js";

/** Where an address leads, and the log2 of the page. */
export interface Place {
  readonly address: bigint;
  readonly shift: number;
}

/** Stage 2 of a stream: from an intermediate address to a physical one. */
export function stage2(
  walker: Walker,
  ste: Int32Array,
  nested: boolean,
): (address: bigint, request: Omit<WalkRequest, "address">) => Place {
  const granule = GRANULES[String(STE.S2TG.decode(ste))];
  if (granule === undefined || STE.S2AA64.get(ste) === 0)
    walker.stop("stops: S2TG or S2AA64 names no tables that exist (C_BAD_STE)");
  const table: ArmTable = {
    stage: 2,
    base: STE.S2TTB.getBig(ste),
    granule,
    bits: 64 - STE.S2T0SZ.get(ste),
    startLevel: stage2StartLevel(granule, STE.S2SL0.get(ste)),
    outputBits: OUTPUT_BITS[STE.S2PS.get(ste)],
    prefix: nested ? "S2 " : "",
    place: (address) => address,
  };
  return (address, request) => {
    if (address >> BigInt(table.bits) !== 0n) walker.stop(outsideOf(table, address));
    const { words, base, shift } = walkArmTable(walker, table, address);
    if (S2_DESCRIPTOR.AF.get(words) === 0 && STE.S2HA.get(ste) === 0 && STE.S2AFFD.get(ste) === 0)
      walker.stop("stops: stage 2: AF = 0 (F_ACCESS, S2 = 1)");
    if (!stage2Permits(ste, words, request))
      walker.stop(
        `stops: stage 2: S2AP = ${S2_DESCRIPTOR.S2AP.decode(words)} refuses the ${request.access ?? "access"} (F_PERMISSION, S2 = 1)`,
      );
    return { address: within(base, shift, address), shift };
  };
}

function stage2Permits(ste: Int32Array, words: Int32Array, request: Omit<WalkRequest, "address">): boolean {
  const { access, privileged } = request;
  const rights = S2_DESCRIPTOR.S2AP.get(words);
  if (access === "execute") {
    const who = S2_DESCRIPTOR.XN.decode(words);
    return (
      who === "executable" || (who === "el0Only" && privileged !== true) || (who === "el1Only" && privileged !== false)
    );
  }
  if (access === undefined) return rights !== 0;
  if (!writes(request)) return (rights & 1) !== 0;
  return (rights & 2) !== 0 || (STE.S2HD.get(ste) === 1 && S2_DESCRIPTOR.DBM.get(words) === 1);
}

/** Stage 1 of a context: from a virtual address to stage 1's output. @param place finds tables behind stage 2 */
export function stage1(
  walker: Walker,
  cd: Int32Array,
  request: WalkRequest,
  { prefix, place }: Pick<ArmTable, "prefix" | "place">,
): Place {
  const high = ((request.address >> 55n) & 1n) === 1n;
  const [size, disabled, tg, base, hierarchy] = high
    ? [CD.T1SZ.get(cd), CD.EPD1.get(cd), CD.TG1.decode(cd), CD.TTB1.getBig(cd), CD.HAD1.get(cd) === 0]
    : [CD.T0SZ.get(cd), CD.EPD0.get(cd), CD.TG0.decode(cd), CD.TTB0.getBig(cd), CD.HAD0.get(cd) === 0];
  if (disabled === 1) walker.stop(`stops: EPD${high ? 1 : 0} = 1, walks are disabled (F_TRANSLATION)`);
  const granule = GRANULES[String(tg)];
  if (granule === undefined || CD.AA64.get(cd) === 0)
    walker.stop(`stops: TG${high ? 1 : 0} or AA64 names no tables that exist (C_BAD_CD)`);
  const bits = 64 - size;
  const outputBits = OUTPUT_BITS[CD.IPS.get(cd)];
  const startLevel = stage1StartLevel(granule, bits);
  const table: ArmTable = { stage: 1, base, granule, bits, startLevel, outputBits, prefix, place };
  const tagged = ((CD.TBI.get(cd) >> (high ? 1 : 0)) & 1) === 1;
  const address = tagged ? BigInt.asUintN(64, BigInt.asIntN(56, request.address)) : request.address;
  const outside = high ? BigInt.asUintN(64, ~address) : address;
  if (outside >> BigInt(bits) !== 0n) walker.stop(outsideOf(table, address));
  const leaf = walkArmTable(walker, table, address);
  const refusal = stage1Refusal(cd, leaf, hierarchy, request);
  if (refusal !== undefined) walker.stop(`stops: ${refusal}`);
  return { address: within(leaf.base, leaf.shift, address), shift: leaf.shift };
}

/** D8.4.1. Left out: E0PD, EL2. A right that depends on a privilege which the record does not say is not refused. */
function stage1Refusal(cd: Int32Array, leaf: Leaf, hierarchy: boolean, request: WalkRequest): string | undefined {
  const { words } = leaf;
  if (S1_DESCRIPTOR.AF.get(words) === 0 && CD.HA.get(cd) === 0 && CD.AFFD.get(cd) === 0) return "AF = 0 (F_ACCESS)";
  const ap = S1_DESCRIPTOR.AP.get(words);
  const el0 = (ap & 1) !== 0 && !(hierarchy && leaf.noEl0);
  const writable = (ap & 2) === 0 && !(hierarchy && leaf.readOnly);
  const { access, privileged } = request;
  if (access !== "execute") {
    if (privileged === false && !el0) return "for privileged accesses only (F_PERMISSION)";
    if (privileged === true && el0 && CD.PAN.get(cd) === 1) return "PAN = 1, and the page is EL0's (F_PERMISSION)";
    const clean = CD.HD.get(cd) === 1 && S1_DESCRIPTOR.DBM.get(words) === 1 && !(hierarchy && leaf.readOnly);
    return writes(request) && !writable && !clean ? "read-only (F_PERMISSION)" : undefined;
  }
  const wxn = CD.WXN.get(cd) === 1 && writable;
  const never = { PXN: S1_DESCRIPTOR.PXN.get(words) === 1, UXN: S1_DESCRIPTOR.UXN.get(words) === 1 };
  const atEl1 = never.PXN || (hierarchy && leaf.noExecute.privileged) || wxn || (el0 && writable);
  const atEl0 = never.UXN || (hierarchy && leaf.noExecute.unprivileged) || (wxn && el0);
  const refused = privileged === undefined ? atEl0 && atEl1 : privileged ? atEl1 : atEl0;
  return refused ? "not executable (F_PERMISSION)" : undefined;
}
