/** The table of configurations: which IOMMU with which registers and options, and which kernel's answers. */
import type { IommuPlugin } from "@iommukit/core";
import { PRESETS as SMMUV3_PRESETS, type Smmuv3Preset, smmuv3 } from "@iommukit/iommu-smmuv3";
import { isaWindow, PRESETS as VTD_PRESETS, type VtdPreset, vtd } from "@iommukit/iommu-vtd";
import type { ProfileName, VfioParams } from "@iommukit/vfio-type1";
import type { TranscriptHeader } from "./transcript-header.js";

export interface Configuration {
  /** Undefined: the machine has none, and no device is in a group. */
  readonly iommu: IommuPlugin | undefined;
  readonly params: Partial<VfioParams>;
  /** iommu=pt. */
  readonly passthrough: boolean;
  /** MSI-X vectors can be added while others are in use. */
  readonly dynamicMsix: boolean;
}

/** QEMU 7.2's capability registers for 39 bits of address; 48 bits, caching mode, snoop control and remapping change them. */
const QEMU_CAP_39 = 0x00d2_008c_2226_0206n;
const QEMU_CAP_48 = 0x00d2_008c_222f_0606n;
const QEMU_ECAP = 0xf0_0f4an;
const CAP_CM = 1n << 7n;
const ECAP_SC = 1n << 7n;
const ECAP_IR = 1n << 3n;

interface IntelOptions {
  readonly bits: 39 | 48;
  readonly cachingMode: boolean;
  readonly snoop: boolean;
  readonly remapping: boolean;
  /** Of Linux 7.3: mappings without READ cannot be read, and messages name PCI segments. */
  readonly linux73: boolean;
}

function intel({ bits, cachingMode, snoop, remapping, linux73 }: IntelOptions): IommuPlugin {
  const preset: VtdPreset = {
    ...VTD_PRESETS["qemu-11-q35"],
    name: `qemu-7.2-q35-${bits}`,
    summary: `intel-iommu of QEMU 7.2 with aw-bits=${bits}`,
    cap: (bits === 39 ? QEMU_CAP_39 : QEMU_CAP_48) | (cachingMode ? CAP_CM : 0n),
    ecap: (QEMU_ECAP | (snoop ? ECAP_SC : 0n)) & ~(remapping ? 0n : ECAP_IR),
    hostAddressWidth: bits,
  };
  // Caching mode makes Linux strict; else it is lazy by default.
  return vtd({
    preset,
    mode: "legacy",
    strict: cachingMode,
    reservedMemory: [isaWindow(LPC_BRIDGE)],
    writeImpliesRead: !linux73,
    segmentInMessages: linux73,
  });
}

/** 00:1f.0 of q35. */
const LPC_BRIDGE = 0xf8;

/** QEMU 7.2's SMMUv3 has stage 1 alone. */
function arm(profile: ProfileName): IommuPlugin {
  const base = SMMUV3_PRESETS["qemu-11-virt"];
  const preset: Smmuv3Preset = {
    ...base,
    name: "qemu-7.2-virt",
    summary: "QEMU 7.2 virt: stage 1, 44-bit addresses",
    idr0: base.idr0 & ~1,
  };
  // The name that Linux gives it stands in its messages.
  return { ...smmuv3({ preset, decodeEvents: profile === "linux-7.3" }), name: "9050000.smmuv3" };
}

interface Family {
  /** What a name may go on with. `faults`: the recorder paused, which is not the machine's affair. */
  readonly words: readonly string[];
  readonly make: (words: ReadonlySet<string>, header: TranscriptHeader) => Configuration;
}

/** A configuration is named after its IOMMU and what is set otherwise: "intel-aw48-snoop", "smmuv3-faults". */
const FAMILIES: Readonly<Record<string, Family>> = {
  intel: { words: ["aw39", "aw48", "cm39", "cm48", "snoop", "noir", "unsafe", "pt", "faults"], make: x86 },
  smmuv3: {
    words: ["pt", "faults"],
    make: (words, header) => ({
      iommu: arm(profileOf(header)),
      params: {},
      passthrough: words.has("pt"),
      // An ITS allocates further vectors since the kernels between the two.
      dynamicMsix: profileOf(header) === "linux-7.3",
    }),
  },
  noiommu: { words: [], make: () => ({ iommu: undefined, params: {}, passthrough: false, dynamicMsix: true }) },
};
const NOT_MODELLED: Readonly<Record<string, string>> = { amd: "AMD-Vi", "virtio-iommu": "virtio-iommu" };

function x86(words: ReadonlySet<string>, header: TranscriptHeader): Configuration {
  const profile = profileOf(header);
  const named = ["aw39", "aw48", "cm39", "cm48"].find((word) => words.has(word));
  const iommu = intel({
    bits: words.has("aw48") || words.has("cm48") ? 48 : 39,
    // A name that does not say: caching mode, unless the kernel was lazy.
    cachingMode: named ? named.startsWith("cm") : header.domainType !== "DMA-FQ",
    snoop: words.has("snoop"),
    remapping: !words.has("noir"),
    linux73: profile === "linux-7.3",
  });
  return {
    iommu,
    params: { allowUnsafeInterrupts: words.has("unsafe") },
    passthrough: words.has("pt"),
    // Vectors can be added since 6.5, where interrupts are remapped or go straight to the CPUs.
    dynamicMsix: profile !== "linux-6.1",
  };
}

/** A machine that has no model here: `message` says why. */
export class UnknownMachine extends Error {
  override readonly name = "UnknownMachine";
}

/** @throws UnknownMachine */
export function configurationOf(header: TranscriptHeader): Configuration {
  const { config } = header;
  const named = (name: string) => config === name || config.startsWith(`${name}-`);
  const unmodelled = Object.keys(NOT_MODELLED).find(named);
  if (unmodelled !== undefined)
    throw new UnknownMachine(`the machine "${config}" has ${NOT_MODELLED[unmodelled]}, which is not modelled`);
  const family = Object.keys(FAMILIES).find(named);
  if (family === undefined)
    throw new UnknownMachine(`no machine is called "${config}"; names begin with ${Object.keys(FAMILIES).join(", ")}`);
  const { words, make } = FAMILIES[family];
  const given = config.split("-").slice(1);
  const strange = given.find((word) => !words.includes(word));
  if (strange !== undefined)
    throw new UnknownMachine(
      `the machine "${config}": "${strange}" is no setting of ${family}; there are ${words.join(", ") || "none"}`,
    );
  return make(new Set(given), header);
}

export function profileOf({ kernel }: TranscriptHeader): ProfileName {
  if (kernel.startsWith("6.1.")) return "linux-6.1";
  return Number(kernel.split(".")[0]) >= 7 ? "linux-7.3" : "linux-6.12";
}
