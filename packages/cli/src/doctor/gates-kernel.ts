/** Gates that firmware, the kernel's build and its command line hold. */
import { fail, type Gate, pass, unknown } from "./gate.js";
import type { Machine } from "./machine.js";

/** Options of the last kernels; the older name stands second. */
const OPTIONS = {
  intel: [
    ["CONFIG_INTEL_IOMMU"],
    ["CONFIG_INTEL_IOMMU_SVM"],
    ["CONFIG_IOMMU_SVA", "CONFIG_IOMMU_SVA_LIB"],
    ["CONFIG_PCI_PASID"],
    ["CONFIG_PCI_PRI"],
    ["CONFIG_PCI_ATS"],
  ],
  arm: [
    ["CONFIG_ARM_SMMU_V3"],
    ["CONFIG_ARM_SMMU_V3_SVA"],
    ["CONFIG_IOMMU_SVA", "CONFIG_IOMMU_SVA_LIB"],
    ["CONFIG_PCI_PASID"],
    ["CONFIG_PCI_PRI"],
    ["CONFIG_PCI_ATS"],
  ],
} as const;

/** A configuration with fewer options is a part of one: what is not in it may still be set. */
const WHOLE = 500;

export const FIRMWARE: Gate = {
  name: "firmware",
  check({ vendor, lines, hasLog, units, idr }) {
    const table = lines.get("dmarTable") ?? lines.get("smmuTable") ?? lines.get("smmu");
    const broken = lines.get("dmarBroken");
    if (broken !== undefined) return [fail(broken, "update the firmware: its DMAR table is refused")];
    if (table !== undefined) return [pass(table)];
    if (units.size > 0 || idr.size > 0) return [pass("the IOMMU's registers are in the input")];
    const other = lines.get("otherIommu");
    if (other !== undefined)
      return [unknown(`${other}: an IOMMU that is neither VT-d nor an SMMUv3: no gate knows it`)];
    if (!hasLog) return [unknown("no kernel log in the input: dmesg | grep -e DMAR -e IORT")];
    return [
      fail(
        "the log names neither a DMAR nor an IORT table",
        lines.has("guest")
          ? "give the guest a virtual IOMMU: this is one, and its hypervisor shows none"
          : vendor === "arm"
            ? "firmware has to describe the SMMU (IORT or device tree)"
            : "enable VT-d in the firmware's setup",
      ),
    ];
  },
};

export const KERNEL_CONFIG: Gate = {
  name: "kernel config",
  check({ vendor, config }) {
    if (config.size === 0)
      return [unknown("no kernel configuration in the input: /boot/config-$(uname -r) or /proc/config.gz")];
    if (vendor === undefined) return [unknown("neither CONFIG_INTEL_IOMMU nor CONFIG_ARM_SMMU_V3 is in it")];
    const wanted: readonly (readonly string[])[] = OPTIONS[vendor];
    const value = (names: readonly string[]) =>
      names.map((name) => config.get(name)).find((set) => set === "y") ?? config.get(names[0]);
    return wanted.map((names) => {
      const set = value(names);
      if (set === "y") return pass(`${names[0]}=y`);
      if (set === undefined && config.size < WHOLE)
        return unknown(`${names[0]} is not in the part of the configuration that was given`);
      return fail(`${names[0]} is not set`, `build the kernel with ${names[0]}=y`);
    });
  },
};

function words({ commandLine }: Machine): string[] {
  return commandLine?.split(/\s+/) ?? [];
}

/** Values of intel_iommu=, the last word on each matter. */
function intelWords(machine: Machine): string[] {
  return words(machine).flatMap((word) =>
    word.startsWith("intel_iommu=") ? word.slice("intel_iommu=".length).split(",") : [],
  );
}

function lastOf(values: readonly string[], of: readonly string[]): string | undefined {
  return values.filter((value) => of.includes(value)).at(-1);
}

export const COMMAND_LINE: Gate = {
  name: "command line",
  check(machine) {
    const { vendor, commandLine, config, lines } = machine;
    if (commandLine === undefined) return [unknown("no command line in the input: /proc/cmdline")];
    if (words(machine).includes("iommu=off"))
      return [fail("iommu=off", "take iommu=off from the kernel's command line")];
    if (vendor === "arm") return [pass("nothing on it turns the SMMU off")];
    if (vendor === undefined && lines.has("otherIommu")) return [unknown("the options of this IOMMU are not known")];
    const on = lastOf(intelWords(machine), ["on", "off"]);
    const scalable = lastOf(intelWords(machine), ["sm_on", "sm_off"]);
    const byDefault = (name: string) => config.get(name) === "y";
    return [
      on === "off"
        ? fail("intel_iommu=off", "boot with intel_iommu=on,sm_on")
        : on === "on" || byDefault("CONFIG_INTEL_IOMMU_DEFAULT_ON") || lines.has("enabled")
          ? pass(on === "on" ? "intel_iommu=on" : "the IOMMU is on by default")
          : config.size > 0
            ? fail(
                "intel_iommu=on is missing, and CONFIG_INTEL_IOMMU_DEFAULT_ON is not set",
                "boot with intel_iommu=on,sm_on",
              )
            : unknown("no intel_iommu=on: whether the kernel's default is on, its configuration says"),
      scalable === "sm_off"
        ? fail("intel_iommu=sm_off", "boot with intel_iommu=on,sm_on: PASIDs need scalable mode")
        : scalable === "sm_on" || byDefault("CONFIG_INTEL_IOMMU_SCALABLE_MODE_DEFAULT_ON")
          ? pass(scalable === "sm_on" ? "sm_on" : "scalable mode is on by default")
          : config.size > 0
            ? fail(
                "sm_on is missing, and CONFIG_INTEL_IOMMU_SCALABLE_MODE_DEFAULT_ON is not set",
                "boot with intel_iommu=on,sm_on: PASIDs need scalable mode",
              )
            : unknown("no sm_on: whether scalable mode is the kernel's default, its configuration says"),
    ];
  },
};

export const DEFAULT_DOMAIN: Gate = {
  name: "default domain",
  check({ lines, groups, groupTypes }, device) {
    const group = device === undefined ? undefined : groups.get(device);
    const type = group === undefined ? undefined : groupTypes.get(group);
    if (type?.startsWith("DMA")) return [pass(`${device} (group ${group}): ${type}`)];
    const line = type === undefined ? lines.get("domainType") : `${device} (group ${group}): ${type}`;
    if (line === undefined) return [unknown('no "iommu: Default domain type" line in the input')];
    if (line.includes("Translated")) return [pass(line)];
    return [
      unknown(
        `${line}: whether the driver binds processes beside an identity domain depends on the kernel; without iommu=pt it is Translated`,
      ),
    ];
  },
};
