/** The SMMUv3 that a device script was written for, from its `config` and from what it does. */
import { CMD_SYNC, IDR0, IDR1, IDR3, IDR5, OPCODE, PRESETS, type Smmuv3Preset, SYNC_CS } from "@iommukit/iommu-smmuv3";
import { namedFields, unknownKeys } from "./config.js";
import type { ScriptCase, Step } from "./device-script.js";
import { big } from "./values.js";

interface Config {
  readonly sidsize?: number;
  readonly oas_bits?: number;
  readonly cmdqs_log2?: number;
  readonly evtqs_log2?: number;
  readonly s1p?: number;
  readonly s2p?: number;
  readonly gran?: readonly string[];
  readonly two_level_strtab?: number;
}

/** The keys of `config` that say what the chip has. */
export const SMMU_CONFIG: readonly (keyof Config)[] = [
  "sidsize",
  "oas_bits",
  "cmdqs_log2",
  "evtqs_log2",
  "s1p",
  "s2p",
  "gran",
  "two_level_strtab",
];

const OAS = [32, 36, 40, 42, 44, 48, 52];

/** The chip that the script was written for. Messages exist where the script uses them. */
export function smmuPreset({ config: named, steps }: ScriptCase): Smmuv3Preset {
  const given = named ?? {};
  const config = given as Config;
  const base = PRESETS["qemu-11-virt"];
  // OpenVMM's chip, whose scripts name their StreamID size, has no SubstreamIDs and nothing of IDR3.
  const small = config.sidsize !== undefined;
  const { SIDSIZE, SSIDSIZE, CMDQS, EVENTQS, ...idr1 } = IDR1.decode(Int32Array.of(base.idr1));
  const granule = (name: string) => config.gran?.includes(name) ?? true;
  return {
    ...base,
    name: "script",
    idr0: IDR0.encode({
      ...IDR0.decode(Int32Array.of(base.idr0)),
      MSI: steps.some(usesMessages),
      ST_LEVEL: config.two_level_strtab === 0 ? "linear" : "twoLevel",
      ...namedFields(given, IDR0),
    })[0],
    idr1: IDR1.encode({
      ...idr1,
      SIDSIZE,
      SSIDSIZE: small ? 0 : SSIDSIZE,
      CMDQS: config.cmdqs_log2 ?? CMDQS,
      EVENTQS: config.evtqs_log2 ?? EVENTQS,
      ...namedFields(given, IDR1),
    })[0],
    idr3: IDR3.encode({ ...(small ? {} : IDR3.decode(Int32Array.of(base.idr3))), ...namedFields(given, IDR3) })[0],
    idr5: IDR5.encode({
      OAS: config.oas_bits === undefined ? IDR5.OAS.get(Int32Array.of(base.idr5)) : OAS.indexOf(config.oas_bits),
      GRAN4K: granule("4K"),
      GRAN16K: granule("16K"),
      GRAN64K: granule("64K"),
      ...namedFields(given, IDR5),
    })[0],
    aidr: 3,
  };
}

/** Programs an interrupt's message, or is a CMD_SYNC that signals with one (CS = 1). */
function usesMessages(step: Step): boolean {
  if (step.op === "mmio_write") return [0x68, 0xb0].includes(Number(step.off));
  if (step.op !== "mem_write") return false;
  const word = Number(big(step.value) & 0xffff_ffffn);
  return (word & 0xff) === OPCODE.SYNC && CMD_SYNC.CS.get(Int32Array.of(word, 0, 0, 0)) === SYNC_CS.irq;
}

/** Keys that say nothing that a chip here could have. */
export function unknownToSmmu({ config }: ScriptCase): string[] {
  return unknownKeys(config ?? {}, SMMU_CONFIG, [IDR0, IDR1, IDR3, IDR5]);
}
