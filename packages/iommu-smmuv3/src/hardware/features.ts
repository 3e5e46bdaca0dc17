/** What the identification registers say, once, as numbers for the hot path. IHI 0070 6.3.1 to 6.3.8. */
import type { Smmuv3Preset } from "../presets.js";
import { IDR0, IDR1, IDR3, IDR5 } from "../spec/registers.js";

/** Bits of an address size by its encoding (IDR5.OAS, CD.IPS, STE.S2PS); reserved values behave as 52 (SMMUv3.1). */
export const ADDRESS_BITS: readonly number[] = [32, 36, 40, 42, 44, 48, 52, 52];

/** Values of IDR0.STALL_MODEL. */
export const STALL_MODEL = { both: 0, terminate: 1, force: 2 } as const;

export class Features {
  readonly s1p: boolean;
  readonly s2p: boolean;
  readonly aarch64: boolean;
  readonly btm: boolean;
  /** 0 none, 1 access flag, 2 access flag and dirty state. */
  readonly httu: number;
  readonly hyp: boolean;
  readonly ats: boolean;
  readonly splitStageAts: boolean;
  readonly asid16: boolean;
  readonly msi: boolean;
  readonly sev: boolean;
  readonly pri: boolean;
  readonly vmw: boolean;
  readonly vmid16: boolean;
  readonly cd2l: boolean;
  readonly bigEndianOnly: boolean;
  readonly littleEndianOnly: boolean;
  readonly atsRecErr: boolean;
  readonly stallModel: number;
  readonly termModel: boolean;
  readonly twoLevelStreamTable: boolean;
  readonly sidSize: number;
  readonly ssidSize: number;
  readonly priqs: number;
  readonly eventqs: number;
  readonly cmdqs: number;
  readonly attrPermsOvr: boolean;
  readonly had: boolean;
  readonly xnx: boolean;
  readonly pps: boolean;
  readonly fwb: boolean;
  readonly stt: boolean;
  readonly ril: boolean;
  readonly e0pd: boolean;
  readonly oasBits: number;
  /** Physical addresses are below this. */
  readonly oasSize: number;
  /** Granule is supported, by its log2: 12, 14, 16. */
  readonly granules: readonly boolean[];
  /** log2 of the smallest of them. */
  readonly smallestGranule: number;
  readonly va52: boolean;
  readonly stallMax: number;

  constructor(preset: Smmuv3Preset) {
    const idr0 = Int32Array.of(preset.idr0);
    const idr1 = Int32Array.of(preset.idr1);
    const idr3 = Int32Array.of(preset.idr3);
    const idr5 = Int32Array.of(preset.idr5);
    this.s1p = IDR0.S1P.decode(idr0);
    this.s2p = IDR0.S2P.decode(idr0);
    this.aarch64 = (IDR0.TTF.get(idr0) & 2) !== 0;
    this.btm = IDR0.BTM.decode(idr0);
    this.httu = IDR0.HTTU.get(idr0);
    this.hyp = IDR0.HYP.decode(idr0);
    this.ats = IDR0.ATS.decode(idr0);
    this.splitStageAts = !IDR0.NS1ATS.decode(idr0);
    this.asid16 = IDR0.ASID16.decode(idr0);
    this.msi = IDR0.MSI.decode(idr0);
    this.sev = IDR0.SEV.decode(idr0);
    this.pri = IDR0.PRI.decode(idr0);
    this.vmw = IDR0.VMW.decode(idr0);
    this.vmid16 = IDR0.VMID16.decode(idr0);
    this.cd2l = IDR0.CD2L.decode(idr0);
    this.littleEndianOnly = IDR0.TTENDIAN.get(idr0) === 2;
    this.bigEndianOnly = IDR0.TTENDIAN.get(idr0) === 3;
    this.atsRecErr = IDR0.ATSRECERR.decode(idr0);
    this.stallModel = IDR0.STALL_MODEL.get(idr0);
    this.termModel = IDR0.TERM_MODEL.decode(idr0);
    this.twoLevelStreamTable = IDR0.ST_LEVEL.get(idr0) !== 0;
    this.sidSize = IDR1.SIDSIZE.get(idr1);
    this.ssidSize = IDR1.SSIDSIZE.get(idr1);
    this.priqs = IDR1.PRIQS.get(idr1);
    this.eventqs = IDR1.EVENTQS.get(idr1);
    this.cmdqs = IDR1.CMDQS.get(idr1);
    this.attrPermsOvr = IDR1.ATTR_PERMS_OVR.decode(idr1);
    this.had = IDR3.HAD.decode(idr3);
    this.xnx = IDR3.XNX.decode(idr3);
    this.pps = IDR3.PPS.decode(idr3);
    this.fwb = IDR3.FWB.decode(idr3);
    this.stt = IDR3.STT.decode(idr3);
    this.ril = IDR3.RIL.decode(idr3);
    this.e0pd = IDR3.E0PD.decode(idr3);
    this.oasBits = ADDRESS_BITS[IDR5.OAS.get(idr5)];
    this.oasSize = 2 ** this.oasBits;
    const granules: boolean[] = new Array<boolean>(17).fill(false);
    granules[12] = IDR5.GRAN4K.decode(idr5);
    granules[14] = IDR5.GRAN16K.decode(idr5);
    granules[16] = IDR5.GRAN64K.decode(idr5);
    this.granules = granules;
    this.smallestGranule = granules.indexOf(true);
    this.va52 = IDR5.VAX.get(idr5) === 1;
    this.stallMax = IDR5.STALL_MAX.get(idr5);
  }
}
