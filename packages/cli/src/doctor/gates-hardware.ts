/** Gates that capability bits of the IOMMU and of the device hold, and what the device's driver said. */
import { fail, type Gate, pass, unknown, type Verdict } from "./gate.js";
import type { PciCapabilities, VtdUnit } from "./machine.js";

/** What Linux asks of ECAP before it enables shared virtual memory, and before page requests. */
const ECAP_BITS = [
  ["SMTS", "scalable mode"],
  ["PASID", "requests with PASID"],
  ["FSTS", "first-stage translation: a process's own tables"],
  ["DT", "device-TLBs: ATS"],
  ["PRS", "page requests"],
] as const;

const BROKEN_HARDWARE = "another machine or a firmware setting: the unit itself does not offer it";

function unitVerdict({ name, fields }: VtdUnit): Omit<Verdict, "gate"> {
  const missing = ECAP_BITS.filter(([bit]) => fields.get(`ECAP.${bit}`) === "0x0");
  if (missing.length === 0) return pass(`${name}: ${ECAP_BITS.map(([bit]) => `${bit}+`).join(" ")}`);
  return fail(`${name}: ${missing.map(([bit, what]) => `${bit}- (${what})`).join(", ")}`, BROKEN_HARDWARE);
}

export const IOMMU: Gate = {
  name: "IOMMU",
  check({ units, idr, lines }) {
    const inconsistent = lines.get("inconsistent");
    const first =
      inconsistent === undefined
        ? []
        : [
            fail(
              inconsistent,
              "one unit lacks what the others have, and Linux then does without it everywhere: a firmware setting or update",
            ),
          ];
    if (units.size > 0) return [...first, ...[...units.values()].map(unitVerdict)];
    if (first.length > 0) return first;
    if (!idr.has("IDR0.ATS") && !idr.has("IDR1.SSIDSIZE"))
      return [unknown("neither CAP and ECAP (dmesg: reg_base_addr) nor IDR0 and IDR1 are in the input")];
    const bits = (name: string, what: string) =>
      idr.get(name) === "0x0"
        ? fail(`${name} = 0: ${what}`, BROKEN_HARDWARE)
        : pass(`${name} = ${idr.get(name)}: ${what}`);
    const verdicts = [];
    if (idr.has("IDR1.SSIDSIZE")) verdicts.push(bits("IDR1.SSIDSIZE", "bits of SubstreamID"));
    if (idr.has("IDR0.ATS")) verdicts.push(bits("IDR0.ATS", "ATS"));
    if (idr.has("IDR0.PRI"))
      verdicts.push(
        idr.get("IDR0.PRI") === "0x0" && idr.get("IDR0.STALL_MODEL")?.startsWith("0x1")
          ? fail("IDR0.PRI = 0 and stalls are not supported: no page fault can be answered", BROKEN_HARDWARE)
          : pass("page requests or stalls are supported"),
      );
    return verdicts;
  },
};

const CAPABILITIES = [
  ["PASID", "PASID Extended Capability.PASIDEnable", "PASID"],
  ["ATS", "ATS Extended Capability.Enable", "ATS"],
  ["PRI", "Page Request Extended Capability.Enable", "page requests"],
] as const;

export const DEVICE: Gate = {
  name: "device",
  check({ functions }, wanted) {
    if (functions.size === 0) return [unknown("no lspci -vvv (or -xxxx) as root in the input")];
    if (wanted !== undefined && !functions.has(wanted)) return [unknown(`${wanted} is not in the lspci output`)];
    const able = [...functions.values()].filter(({ bdf, fields }) =>
      wanted === undefined ? fields.has(CAPABILITIES[0][1]) : bdf === wanted,
    );
    if (able.length > 0) return able.flatMap(deviceVerdicts);
    const hidden = [...functions.values()].filter(({ whole }) => !whole).length;
    return hidden > 0
      ? [unknown(`of ${hidden} functions the capabilities above 256 bytes are not in the input: run lspci as root`)]
      : [fail(`none of ${functions.size} functions has a PASID capability`, "another device")];
  },
};

/** The device must be alone: Linux binds no process to one whose traffic it cannot tell from another's. */
export const GROUP: Gate = {
  name: "group",
  check({ functions, groups }, wanted) {
    if (groups.size === 0)
      return [
        unknown('no groups in the input: find /sys/kernel/iommu_groups -type l, or "Adding to iommu group" in dmesg'),
      ];
    const able = [...functions.values()].filter(({ fields }) => fields.has(CAPABILITIES[0][1])).map(({ bdf }) => bdf);
    const devices = wanted === undefined ? able : [wanted];
    if (devices.length === 0)
      return [unknown("which device to look at is not known: none with a PASID capability; -s")];
    return devices.map((bdf) => groupVerdict(bdf, groups));
  },
};

function groupVerdict(bdf: string, groups: ReadonlyMap<string, number>): Omit<Verdict, "gate"> {
  const group = groups.get(bdf);
  if (group === undefined)
    return fail(`${bdf} is in no IOMMU group`, "no IOMMU translates for it: firmware, or a gate above");
  const others = [...groups].filter(([other, number]) => number === group && other !== bdf).map(([other]) => other);
  if (others.length === 0) return pass(`${bdf} is alone in group ${group}`);
  return fail(
    `${bdf} shares group ${group} with ${others.slice(0, 4).join(", ")}${others.length > 4 ? ` and ${others.length - 4} more` : ""}`,
    "another slot, or a switch with ACS: functions that can reach each other unseen share one group",
  );
}

function deviceVerdicts({ bdf, fields, whole }: PciCapabilities): Omit<Verdict, "gate">[] {
  return CAPABILITIES.map(([name, field, what]) => {
    const value = fields.get(field);
    if (value === undefined && !whole) return unknown(`${bdf}: capabilities above 256 bytes are not in the input`);
    if (value === undefined) {
      return name === "PASID"
        ? fail(`${bdf}: no ${name} capability`, "another device: without PASIDs it has one address space")
        : unknown(
            `${bdf}: no ${name} capability: it works only where faults are answered by stalls, or memory is pinned`,
          );
    }
    if (value !== "0x0") return pass(`${bdf}: ${name} Enable+`);
    return fail(
      `${bdf}: ${name} Enable-`,
      `the IOMMU driver enables ${what} when the gates above are open; if they are, look at the device driver's messages`,
    );
  });
}

export const DRIVER: Gate = {
  name: "device driver",
  check({ lines, hasLog }) {
    const line = lines.get("svaFailed");
    if (line !== undefined) return [fail(line, "the driver asked and was refused: the first failure above is why")];
    return [hasLog ? pass("no driver was refused SVA in the log") : unknown("no kernel log in the input")];
  },
};
