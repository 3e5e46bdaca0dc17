/** What the files of a machine say, in any order and mixture: kernel log, command line, kernel configuration, lspci, registers. */
import { Explainer } from "../explain/explainer.js";
import { canonicalBdf } from "../explain/hex.js";
import type { ExplainRecord } from "../explain/record.js";

export interface PciCapabilities {
  readonly bdf: string;
  /** Field values by table and field: "PASID Extended Capability.PASIDEnable" → "0x1". */
  readonly fields: ReadonlyMap<string, string>;
  /** Every capability is in the input; else those above 256 bytes may be there all the same. */
  readonly whole: boolean;
}

/** One remapping unit: fields of CAP and ECAP. */
export interface VtdUnit {
  readonly name: string;
  readonly fields: Map<string, string>;
}

/** /proc/cmdline has no name in front: it begins as boot loaders have it, or with a parameter, and speaks of the IOMMU. */
const COMMAND_LINES = [
  /^(?:BOOT_IMAGE|root|console|initrd|ro |quiet)\S*[= ]/,
  /^(?=(?:\S+ )*(?:intel_iommu|iommu(?:\.\w+)?)=)[a-z][\w.-]*=\S*(?: \S+)*$/,
];

export class Machine {
  /** A kernel log is there, so that a missing line means something. */
  hasLog = false;
  commandLine: string | undefined;
  readonly config = new Map<string, string>();
  readonly functions = new Map<string, PciCapabilities>();
  /** IOMMU group of each function. */
  readonly groups = new Map<string, number>();
  /** Default domain type of each group: "DMA", "DMA-FQ", "identity". */
  readonly groupTypes = new Map<number, string>();
  readonly units = new Map<string, VtdUnit>();
  /** Fields of SMMUv3's IDR registers. */
  readonly idr = new Map<string, string>();
  readonly lines = new Map<Sign, string>();
  readonly #explainer = new Explainer((record) => this.#record(record));

  line(text: string): void {
    this.#explainer.line(text);
    const option = /^(?:# )?(CONFIG_[A-Z0-9_]+)(?:=(\S+)| is not set)$/.exec(text);
    if (option !== null) this.config.set(option[1], option[2] ?? "n");
    if (/Linux version \d/.test(text)) this.hasLog = true;
    const command =
      /Kernel command line: (.*)$/.exec(text)?.[1] ??
      (COMMAND_LINES.some((pattern) => pattern.test(text)) ? text : undefined);
    if (command !== undefined) this.commandLine ??= command.trim();
    this.#group(text);
    for (const [sign, pattern] of SIGNS)
      if (!this.lines.has(sign) && pattern.test(text)) this.lines.set(sign, text.trim());
  }

  end(): void {
    this.#explainer.end();
  }

  /** The kernel's line, the path of find /sys/kernel/iommu_groups, or a group's type file as grep prints it. */
  #group(text: string): void {
    const path = /iommu_groups\/(\d+)\/(?:devices\/([0-9a-f:.]+)|type:\s*(\S+))\s*$/i.exec(text);
    const line = /\b([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]): Adding to iommu group (\d+)\s*$/i.exec(text);
    const group = Number(path?.[1] ?? line?.[2]);
    const bdf = canonicalBdf(path?.[2] ?? line?.[1] ?? "");
    if (bdf !== undefined) this.groups.set(bdf, group);
    if (path?.[3] !== undefined) this.groupTypes.set(group, path[3]);
  }

  get vendor(): "intel" | "arm" | undefined {
    const line = (sign: Sign) => this.lines.has(sign);
    if (this.units.size > 0 || line("dmarTable") || this.config.has("CONFIG_INTEL_IOMMU")) return "intel";
    return this.idr.size > 0 || line("smmuTable") || line("smmu") || this.config.has("CONFIG_ARM_SMMU_V3")
      ? "arm"
      : undefined;
  }

  #record({ kind, summary, facts, parts, notes }: ExplainRecord): void {
    const fields = parts.flatMap(({ table, fields: rows }) =>
      rows.map(({ name, value }): [string, string] => [`${table}.${name}`, value]),
    );
    if (kind === "pci.function" && facts.device !== undefined)
      this.functions.set(facts.device, { bdf: facts.device, fields: new Map(fields), whole: notes.length === 0 });
    const unit = kind === "vtd.register" ? (/^(dmar\d+)/.exec(summary)?.[1] ?? "the unit") : undefined;
    if (unit !== undefined) {
      const known = this.units.get(unit) ?? { name: unit, fields: new Map<string, string>() };
      for (const [name, value] of fields) known.fields.set(name, value);
      this.units.set(unit, known);
    }
    if (kind === "structure" && /^IDR[0-5]$/.test(parts[0].table))
      for (const [name, value] of fields) this.idr.set(name, value);
  }
}

export type Sign =
  | "dmarTable"
  | "smmuTable"
  | "smmu"
  | "otherIommu"
  | "inconsistent"
  | "enabled"
  | "noScalable"
  | "domainType"
  | "svaFailed"
  | "dmarBroken"
  | "guest";

/** Lines of Linux's log that a gate looks at. */
const SIGNS: readonly (readonly [Sign, RegExp])[] = [
  ["dmarTable", /ACPI: DMAR 0x|DMAR: dmar\d+: reg_base_addr/],
  ["smmuTable", /ACPI: IORT 0x/],
  ["smmu", /arm-smmu-v3 \S+: (?:ias \d+-bit, )?oas \d+-bit/],
  [
    "otherIommu",
    /ACPI: (?:IVRS|VIOT) 0x|AMD-Vi: (?:Found IOMMU|Using global IVHD|Extended features)|virtio_iommu \S+: /,
  ],
  [
    "inconsistent",
    /IOMMU feature (?:pasid|prs|sc_support|pgsel_inv|nwfs|dev_iotlb_support|smpwc|flts|slts|nest|pds) inconsistent/,
  ],
  ["enabled", /DMAR: IOMMU enabled|DMAR: Intel\(R\) Virtualization Technology for Directed I\/O/],
  ["noScalable", /DMAR: .*[Ss]calable mode.*(?:not supported|disabled)/],
  ["domainType", /iommu: Default domain type: \S+/],
  ["svaFailed", /Unable to turn on (?:user )?SVA feature|Failed to enable SVA feature/],
  ["dmarBroken", /DMAR: \[Firmware Bug\]/],
  ["guest", /Hypervisor detected: \S+/],
];
