/** What CAP and ECAP promise, decoded once: the model's behaviour follows these values and nothing else. */
import type { VtdPreset } from "../presets.js";
import { CAP, ECAP, type UnitRegisters, unitRegisters } from "../spec/registers.js";

function words(value: bigint): Int32Array {
  return new Int32Array([Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n))]);
}

const BY_PRESET = new WeakMap<VtdPreset, Capabilities>();

export class Capabilities {
  /** Decoded once for all units of a preset. */
  static of(preset: VtdPreset): Capabilities {
    const caps = BY_PRESET.get(preset) ?? new Capabilities(preset);
    BY_PRESET.set(preset, caps);
    return caps;
  }

  readonly cap: ReturnType<typeof CAP.decode>;
  readonly ecap: ReturnType<typeof ECAP.decode>;
  readonly capWords: Int32Array;
  readonly ecapWords: Int32Array;
  readonly majorVersion: number;
  /** Host address width, bits. */
  readonly haw: number;
  /** Bits of a guest address that the second stage takes at most. */
  readonly mgaw: number;
  /** Width of domain-ids, bits. */
  readonly domainBits: number;
  /** Width of PASIDs, bits. */
  readonly pasidBits: number;
  readonly faultRecords: number;
  readonly registers: UnitRegisters;

  private constructor(readonly preset: VtdPreset) {
    this.capWords = words(preset.cap);
    this.ecapWords = words(preset.ecap);
    this.cap = CAP.decode(this.capWords);
    this.ecap = ECAP.decode(this.ecapWords);
    this.majorVersion = preset.version[0];
    this.haw = preset.hostAddressWidth;
    this.mgaw = this.cap.MGAW + 1;
    this.domainBits = 4 + 2 * this.cap.ND;
    this.pasidBits = this.ecap.PSS + 1;
    this.faultRecords = this.cap.NFR + 1;
    this.registers = unitRegisters(this.cap.FRO, this.faultRecords, this.ecap.IRO);
  }

  /** Domain-id bits that exist: hardware ignores the others in descriptors and registers. */
  get domainMask(): number {
    return (1 << this.domainBits) - 1;
  }

  /** Whether a second stage of that AW value is supported. */
  widthSupported(aw: number): boolean {
    return aw >= 1 && aw <= 3 && (this.cap.SAGAW & (1 << aw)) !== 0;
  }
}
