/** Gates one by one: what a machine's files say, and what they do not say stays unknown. */
import { describe, expect, it } from "vitest";
import { diagnose, diagnosisText } from "../../src/doctor/doctor.js";
import { Machine } from "../../src/doctor/machine.js";
import { colours } from "../../src/manners/colours.js";

function doctor(lines: readonly string[], device?: string) {
  const machine = new Machine();
  for (const line of lines) machine.line(line);
  machine.end();
  return diagnose(machine, device);
}

const results = (lines: readonly string[], gate: string, device?: string) =>
  doctor(lines, device)
    .verdicts.filter((verdict) => verdict.gate === gate)
    .map(({ result }) => result);

const FULL_ECAP = "DMAR: dmar0: reg_base_addr fc800000 ver 7:0 cap c9de008cee690462 ecap ";
/** SMTS 43, PASID 40, FSTS 47, DT 2, PRS 29. */
const ABLE = ((1n << 43n) | (1n << 40n) | (1n << 47n) | (1n << 2n) | (1n << 29n)).toString(16);

const DEVICE = [
  "6a:01.0 System peripheral [0880]: Intel Corporation Device [8086:0b25]",
  "\tCapabilities: [220 v1] Address Translation Service (ATS)",
  "\t\tATSCap:\tInvalidate Queue Depth: 00",
  "\t\tATSCtl:\tEnable+, Smallest Translation Unit: 00",
  "\tCapabilities: [230 v1] Process Address Space ID (PASID)",
  "\t\tPASIDCap: Exec- Priv+, Max PASID Width: 14",
  "\t\tPASIDCtl: Enable- Exec- Priv-",
  "\tCapabilities: [240 v1] Page Request Interface (PRI)",
  "\t\tPRICtl: Enable+ Reset-",
  "\t\tPRISta: RF- UPRGI- Stopped-",
  "\t\tPage Request Capacity: 00000200, Page Request Allocation: 00000200",
  "",
];

describe("doctor", () => {
  it("knows nothing of an empty machine and says so at every gate", () => {
    const { verdicts, first } = doctor([]);
    expect(verdicts.every(({ result }) => result === "unknown")).toBe(true);
    expect(first).toBeUndefined();
  });

  it.each([
    ["[    0.050271] ACPI: IVRS 0x000000007FFE231A 000080 (v01 BOCHS  BXPC     00000001 BXPC 00000001)"],
    ["[    0.039686] ACPI: VIOT 0x000000007FFE231A 000058 (v00 BOCHS  BXPC     00000001 BXPC 00000001)"],
    ["[    1.274538] pci 0000:00:01.0: AMD-Vi: Found IOMMU cap 0x40"],
  ])("does not ask for VT-d where another IOMMU works: %s", (line) => {
    const { verdicts, first } = doctor(["Linux version 6.1.0", "Kernel command line: quiet", line]);
    expect(verdicts.filter(({ result }) => result === "fail")).toEqual([]);
    expect(first).toBeUndefined();
  });

  it.each([
    ["arm-smmu-v3 9050000.smmuv3: ias 44-bit, oas 44-bit (features 0x00008305)"],
    ["arm-smmu-v3 9050000.smmuv3: oas 44-bit (features 0x01008305)"],
  ])("knows an SMMU of a device tree by its driver: %s", (line) => {
    const lines = ["Linux version 7.3.4", "Kernel command line: quiet", line];
    expect([results(lines, "firmware"), results(lines, "command line")]).toEqual([["pass"], ["pass"]]);
  });

  it("fails firmware only when there is a log that should have the table", () => {
    expect(results(["Linux version 6.12.0"], "firmware")).toEqual(["fail"]);
    expect(results([`${FULL_ECAP}${ABLE}`], "firmware")).toEqual(["pass"]);
    expect(doctor(["Linux version 6.12.0", "Hypervisor detected: KVM"]).first).toContain(
      "give the guest a virtual IOMMU",
    );
  });

  // https://github.com/intel/intel-device-plugins-for-kubernetes/issues/1836: a server whose firmware hides PASIDs.
  it("tells a server with everything on the command line that its units offer no PASIDs", () => {
    const registers = (unit: number, base: string) =>
      `[    0.166047] DMAR: dmar${unit}: reg_base_addr ${base} ver 6:0 cap 19ed008c40780c66 ecap 3ee9e86f050df`;
    const { verdicts, first } = doctor([
      "BOOT_IMAGE=(hd0,gpt3)/boot/vmlinuz-5.14.0-427.26.1.el9_4.x86_64 rw intel_iommu=on,sm_on modules_load=vfio-pci",
      "[    0.013731] ACPI: DMAR 0x00000000777E0000 000518 (v01 INTEL  M50FCP   00000001 INTL 20091013)",
      "[    0.037393] DMAR: IOMMU enabled",
      "[    0.037395] DMAR: Enable scalable mode if hardware supports",
      registers(0, "d97fc000"),
      registers(1, "e17fc000"),
      "[    5.105827] idxd 0000:6a:01.0: Unable to turn on user SVA feature.",
    ]);
    expect(verdicts.filter(({ result }) => result !== "unknown").map(({ gate, result }) => [gate, result])).toEqual([
      ["firmware", "pass"],
      ["command line", "pass"],
      ["command line", "pass"],
      ["IOMMU", "fail"],
      ["IOMMU", "fail"],
      ["device driver", "fail"],
    ]);
    expect(verdicts.find(({ result }) => result === "fail")?.because).toBe(
      "dmar0: PASID- (requests with PASID), PRS- (page requests)",
    );
    expect(first).toContain("a firmware setting");
  });

  it("takes an option that a part of a configuration leaves out as unknown", () => {
    const gate = results(["CONFIG_INTEL_IOMMU=y", "# CONFIG_INTEL_IOMMU_SVM is not set"], "kernel config");
    expect(gate).toEqual(["pass", "fail", "unknown", "unknown", "unknown", "unknown"]);
  });

  it("names the missing Kconfig option of the GB10 (CONFIG_ARM_SMMU_V3_SVA)", () => {
    expect(doctor(["CONFIG_ARM_SMMU_V3=y", "# CONFIG_ARM_SMMU_V3_SVA is not set"]).first).toBe(
      "build the kernel with CONFIG_ARM_SMMU_V3_SVA=y",
    );
  });

  it("reads intel_iommu's words, the last one on each matter", () => {
    const gate = (words: string) =>
      results(["CONFIG_INTEL_IOMMU=y", `Kernel command line: root=/dev/sda ${words}`], "command line");
    expect(gate("intel_iommu=on,sm_on")).toEqual(["pass", "pass"]);
    expect(gate("intel_iommu=on intel_iommu=sm_off")).toEqual(["pass", "fail"]);
    expect(gate("intel_iommu=on,sm_on intel_iommu=off")).toEqual(["fail", "pass"]);
    expect(gate("")).toEqual(["fail", "fail"]);
    expect(gate("iommu=off")).toEqual(["fail"]);
  });

  it("looks at every unit, and at what the kernel found inconsistent among them", () => {
    expect(results([`${FULL_ECAP}${ABLE}`], "IOMMU")).toEqual(["pass"]);
    expect(
      results(
        [`${FULL_ECAP}${ABLE}`, "DMAR: dmar1: reg_base_addr fed91000 ver 1:0 cap d2008c20660462 ecap f010da"],
        "IOMMU",
      ),
    ).toEqual(["pass", "fail"]);
    expect(results(["DMAR: IOMMU feature pasid inconsistent"], "IOMMU")).toEqual(["fail"]);
    expect(results(["IDR0 = 0x0d0aff1f", "IDR1 = 0x00000508"], "IOMMU")).toContain("pass");
  });

  it("looks at the enable bits of the devices that have a PASID capability, or of the one that is asked for", () => {
    expect(results(DEVICE, "device")).toEqual(["fail", "pass", "pass"]);
    expect(results(DEVICE, "device", "0000:6a:01.0")).toEqual(["fail", "pass", "pass"]);
    expect(results(DEVICE, "device", "0000:00:01.0")).toEqual(["unknown"]);
    expect(results(["00:01.0 Bridge", "\tCapabilities: [40] Power Management version 3", ""], "device")).toEqual([
      "fail",
    ]);
  });

  it("takes capabilities that an ordinary user does not see as unknown, not as missing", () => {
    const row = (n: number) =>
      `${(n * 16).toString(16).padStart(2, "0")}: ${Array.from({ length: 16 }, () => "00").join(" ")}`;
    const some = ["0000:00:02.0 VGA compatible controller", ...Array.from({ length: 4 }, (_, n) => row(n)), ""];
    expect(results(some, "device")).toEqual(["unknown"]);
    expect(results(some, "device", "0000:00:02.0")).toEqual(["unknown", "unknown", "unknown"]);
    expect(results(["00:02.0 VGA", "\tCapabilities: <access denied>", ""], "device")).toEqual(["unknown"]);
  });

  it("wants the device alone in its group", () => {
    const alone = ["idxd 0000:6a:01.0: Adding to iommu group 12", "pci 0000:00:02.0: Adding to iommu group 1"];
    expect(results([...DEVICE, ...alone], "group")).toEqual(["pass"]);
    expect(results([...DEVICE, ...alone, "/sys/kernel/iommu_groups/12/devices/0000:6a:02.0"], "group")).toEqual([
      "fail",
    ]);
    expect(results([...DEVICE, alone[1]], "group")).toEqual(["fail"]);
    expect(results(DEVICE, "group")).toEqual(["unknown"]);
    expect(results(alone, "group", "0000:00:02.0")).toEqual(["pass"]);
  });

  it("judges the default domain by the device's own group where its type is known", () => {
    const lines = ["pci 0000:00:02.0: Adding to iommu group 1", "iommu: Default domain type: Passthrough"];
    const of = (type: string) =>
      results([...lines, `/sys/kernel/iommu_groups/1/type:${type}`], "default domain", "0000:00:02.0");
    expect(of("DMA-FQ")).toEqual(["pass"]);
    expect(of("identity")).toEqual(["unknown"]);
  });

  it("takes no identity domain for a failure, and a driver's refusal for one", () => {
    expect(results(["iommu: Default domain type: Passthrough"], "default domain")).toEqual(["unknown"]);
    expect(results(["idxd 0000:6a:01.0: Unable to turn on user SVA feature."], "device driver")).toEqual(["fail"]);
  });

  it("ends with the first thing to change", () => {
    const text = diagnosisText(
      doctor(["CONFIG_INTEL_IOMMU=y", "Kernel command line: root=/dev/sda intel_iommu=on,sm_off"]),
      colours({}),
    );
    expect(text.split("\n").at(-1)).toBe(
      "first thing to change: boot with intel_iommu=on,sm_on: PASIDs need scalable mode",
    );
  });
});
