/** Causes of VT-d faults by fault reason. */
import type { Facts } from "../record.js";
import { missing } from "./addresses.js";
import type { CauseRule } from "./rule.js";

const code =
  (weight: number, ...codes: readonly number[]) =>
  (facts: Facts) =>
    facts.iommu === "vtd" && facts.code !== undefined && codes.includes(facts.code) ? weight : 0;

const GRAPHICS = "0000:00:02.0";

export const VTD_RULES: readonly CauseRule[] = [
  {
    id: "vtd-graphics-boot",
    title: "the graphics device still scans out memory that firmware gave it and no RMRR names",
    weight: (facts) =>
      facts.iommu === "vtd" && facts.device === GRAPHICS && [1, 2, 5, 6, 7, 0x0c].includes(facts.code ?? 0) ? 80 : 0,
    because:
      "0000:00:02.0 is the integrated graphics device; it goes on reading its frame buffer while the kernel takes over",
    distinguish:
      'only at boot, reset of a guest or with firmware\'s screen on; the address is in no "DMAR: RMRR base" line of dmesg',
    attempt:
      "compare the address with the RMRR lines; a firmware update, or intel_iommu=igfx_off (Xen: iommu=no-igfx), shows whether it is that",
    sources: [
      "Dasharo/dasharo-issues 641",
      "patmagauran/i915ovmfPkg 23",
      "lf-edge/eve pull 146",
      "thesofproject/sof-test 744",
    ],
  },
  {
    id: "vtd-not-attached",
    title: "the device does DMA and no domain has been set up for it",
    weight: code(75, 0x01, 0x02, 0x39, 0x41),
    because: "root or context entry are not present: the IOMMU knows nothing of this requester",
    distinguish:
      "one requester id that is no device of its own: an alias behind a bridge or a phantom function; a real device: left running by firmware or by an earlier kernel",
    attempt: "compare the requester id with lspci -t; look whether the driver for it is loaded when the fault comes",
    sources: ["VT-d 7.1.3 (LRT.2, LCT.2, SRT.2, SCT.2)", "patmagauran/i915ovmfPkg 16"],
  },
  {
    id: "vtd-direction",
    title: "mapped for the other direction",
    weight: (facts) => (code(60, 0x05, 0x06, 0x79, 0x85, 0x86)(facts) && facts.address !== 0n ? 60 : 0),
    because:
      "a second-stage entry without the right reports the same reason whether the page is mapped for the other direction or not mapped at all",
    distinguish: "walk the tables: an entry with R+ W- (or R- W+) is this; an empty entry is an unmapped address",
    attempt: "look at the direction given to dma_map_*: a device that reads what it writes needs DMA_BIDIRECTIONAL",
    sources: ["VT-d 7.1.3 (LGN.2, LGN.3)", "Avnu/igb_avb pull 11"],
  },
  {
    id: "vtd-unmapped",
    title: "the address is not mapped: never was, or not any more",
    weight: (facts) => (facts.iommu === "vtd" && missing(facts) ? 55 : 0),
    because: "a not-present entry gives exactly these reasons",
    distinguish:
      "record iommu:map and iommu:unmap: never mapped is a wrong address (a physical address given to the device, a missing dma_map call); mapped before is a use after unmap",
    attempt:
      "iommu=pt makes physical addresses work: if the fault goes away with it, the driver gives the device physical addresses",
    sources: ["VT-d 7.1.3 (LGN.2, LGN.3, SFS.2)", "Marvell-switching/sonic-marvell-binaries pull 84"],
  },
  {
    id: "vtd-width",
    title: "the address is wider than the unit translates",
    weight: code(85, 0x04, 0x83, 0x84),
    because: "bits above the guest address width are set; no table is looked at",
    distinguish: "compare with MGAW and SAGAW of CAP and AW of the context entry",
    attempt: "explain the CAP register; a DMA mask of 64 bits needs a table of more levels than the domain has",
    sources: ["VT-d 7.1.3 (LGN.1, SGN.4, SGN.5)"],
  },
  {
    id: "vtd-first-stage",
    title:
      "first-stage page not present: shared virtual memory without a page request, or a DMA address that is not mapped",
    weight: code(80, 0x71),
    because: "first-stage tables are a process's own; in scalable mode the kernel's DMA domains use them as well",
    distinguish:
      "with PASID: a process page that is not resident, and the device cannot ask for it (PRI off, or an ordinary request); NO_PASID: the DMA API's table, as with reason 0x05 and 0x06",
    attempt:
      "with PASID check PRICtl Enable+ and ATSCtl Enable+ in lspci -vvv; touch the pages first and see whether it goes away",
    sources: ["VT-d 7.1.3 (SFS.2)", "tenstorrent/tt-umd 1814"],
  },
  {
    id: "vtd-pasid-gone",
    title: "the PASID is not bound, or not any more",
    weight: code(85, 0x51, 0x59, 0x45, 0x46),
    because: "directory or table have no entry for the PASID that the request carries",
    distinguish:
      "after the exit or unbind of a process: the device was not stopped first; from the start: the enable or the bind is missing",
    attempt: "stop the work queue and wait for the device to drain before the PASID is freed",
    sources: [
      "VT-d 7.1.3 (SPD.2, SPT.2, SCT.6, SCT.7)",
      "iommu list 2022-04-28 <20220428180041.806809-1-fenghua.yu@intel.com>",
    ],
  },
  {
    id: "vtd-reserved",
    title: "the tables are not in the format that the unit reads them as, or memory is corrupt",
    weight: code(
      70,
      0x03,
      0x07,
      0x08,
      0x09,
      0x0a,
      0x0b,
      0x0c,
      0x38,
      0x3a,
      0x42,
      0x43,
      0x52,
      0x5a,
      0x5b,
      0x72,
      0x7a,
      0x7b,
    ),
    because: "an entry is there and holds reserved bits, an impossible combination or an address that cannot be read",
    distinguish:
      "all devices of the unit at once: RTADDR.TTM does not fit the tables (legacy tables read as scalable ones); one device: its entry was overwritten, or seen by a unit that does not snoop (ECAP.C, ECAP.SMPWCS)",
    attempt: "dump debugfs dmar_translation_struct and explain it: reserved bits are named; compare ECAP of all units",
    sources: ["VT-d 7.1.3", "intel/dsa-perf-micros 3 (0x3a, unsolved)", "thesofproject/sof-test pull 749 (0x0c)"],
  },
  {
    id: "vtd-interrupt-not-present",
    title: "an interrupt after its remapping entry was freed, or one that was never set up",
    weight: code(80, 0x22),
    because: "the index that the message carries names an entry that is not present",
    distinguish:
      "after a driver was unloaded or a kernel was kexec'ed: stale MSI registers of the device; always: wrong index in address and data",
    attempt: "read the device's MSI address and data and compare the handle with the fault index",
    sources: ["VT-d 5.1.4.1 (reason 22h)"],
  },
  {
    id: "vtd-interrupt-format",
    title: "an interrupt in compatibility format while remapping is on",
    weight: code(80, 0x25),
    because: "the message has bit 4 of its address clear and GSTS.CFIS blocks such messages",
    distinguish:
      "from 00:1f.0 or another function of the chipset: HPET or IO-APIC, programmed by firmware or before remapping was enabled",
    attempt: "look which interrupt source was enabled before remapping; the device's MSI address shows bit 4",
    sources: ["VT-d 5.1.2.1, 5.1.4.1 (reason 25h)", "xen-devel, HPET: INTR-REMAP reason 25 during boot"],
  },
  {
    id: "vtd-interrupt-source",
    title: "the interrupt came from another requester than its entry allows",
    weight: code(80, 0x26),
    because: "SVT and SID of the remapping entry do not fit the requester id",
    distinguish: "behind a bridge requester ids change to the bridge's; an alias gives the same picture",
    attempt: "compare the requester id of the fault with the SID of the entry and with lspci -t",
    sources: ["VT-d 5.1.4.1 (reason 26h)", "VT-d 9.9"],
  },
];
