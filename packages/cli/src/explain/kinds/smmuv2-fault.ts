/**
 * Context faults of SMMUv1 and SMMUv2 as Linux and Xen print them on one line. There is no such backend here, so the two registers' tables
 * live beside their only reader.
 */
import { bit, layout, reserved, uint } from "@iommukit/core";
import { hex } from "../hex.js";
import type { Emit, Line, Recogniser } from "../recogniser.js";
import { partOf, reservedNotes } from "../record.js";

const SPEC = "IHI0062 16.6";

const CB_FSR = layout(
  { name: "SMMU_CBn_FSR", bits: 32, spec: SPEC },
  {
    _0: reserved(0),
    TF: bit(1, "translation fault"),
    AFF: bit(2, "access flag fault"),
    PF: bit(3, "permission fault"),
    EF: bit(4, "external fault on a table walk"),
    TLBMCF: bit(5, "TLB match conflict"),
    TLBLKF: bit(6, "TLB lock fault"),
    ASF: bit(7, "address size fault"),
    UUT: bit(8, "unsupported upstream transaction"),
    FORMAT: uint(10, 9, "of the tables: 0 AArch32 short, 1 AArch32 long, 2 AArch64"),
    _29_11: reserved(29, 11),
    SS: bit(30, "the transaction is stalled"),
    MULTI: bit(31, "more faults came before this one was cleared"),
  },
);

const CB_FSYNR0 = layout(
  { name: "SMMU_CBn_FSYNR0", bits: 32, spec: SPEC },
  {
    PLVL: uint(1, 0, "level of the table where the walk stopped"),
    _3_2: reserved(3, 2),
    WNR: bit(4, "write"),
    PNU: bit(5, "privileged"),
    IND: bit(6, "instruction fetch"),
    _7: reserved(7),
    NSATTR: bit(8, "non-secure"),
    _9: reserved(9),
    PTWF: bit(10, "in the walk itself: in stage 2 for a table of stage 1"),
    AFR: bit(11, "asynchronous"),
    _15_12: reserved(15, 12),
    S1CBNDX: uint(23, 16, "context bank of stage 1"),
    _31_24: reserved(31, 24),
  },
);

const FAULT =
  /((?:arm-smmu|smmu:) \S+): Unhandled context fault: fsr=0x([0-9a-f]{1,8}), iova=0x([0-9a-f]{1,16}), fsynr=0x([0-9a-f]{1,8}),(?: cbfrsynra=0x([0-9a-f]{1,8}),)? cb=(\d+)\s*$/i;
const CAUSES = ["TF", "AFF", "PF", "EF", "TLBMCF", "TLBLKF", "ASF", "UUT"] as const;

export class Smmuv2FaultRecogniser implements Recogniser {
  take(line: Line, emit: Emit): boolean {
    const match = FAULT.exec(line.text);
    if (match === null) return false;
    const [, unit, fsrText, iova, fsynrText, stream, bank] = match;
    const fsr = Int32Array.of(Number.parseInt(fsrText, 16));
    const fsynr = Int32Array.of(Number.parseInt(fsynrText, 16));
    const address = BigInt(`0x${iova}`);
    const sid = stream === undefined ? undefined : Number.parseInt(stream, 16) & 0xffff;
    const access = CB_FSYNR0.IND.get(fsynr) === 1 ? "execute" : CB_FSYNR0.WNR.get(fsynr) === 1 ? "write" : "read";
    const reasons = CAUSES.filter((name) => CB_FSR[name].get(fsr) === 1);
    const who = sid === undefined ? "" : `StreamID ${hex(sid)}  `;
    emit({
      kind: "smmuv2.context-fault",
      line: line.number,
      raw: [line.text],
      summary: `SMMUv2 context fault  ${unit} bank ${bank}  ${who}${access} ${hex(address)}  ${reasons.join(" ") || "no reason in FSR"}`,
      facts: {
        iommu: "smmuv2",
        name: reasons[0],
        sid,
        address,
        access,
        privileged: CB_FSYNR0.PNU.get(fsynr) === 1,
        permission:
          reasons.includes("PF") || reasons.includes("AFF") ? true : reasons.includes("TF") ? false : undefined,
      },
      parts: [partOf(CB_FSR, fsr), partOf(CB_FSYNR0, fsynr)],
      notes: [...reservedNotes(CB_FSR, fsr), ...reservedNotes(CB_FSYNR0, fsynr)],
    });
    return true;
  }
}
