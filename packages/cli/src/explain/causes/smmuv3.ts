/** Causes of SMMUv3 events by event number. */
import type { Facts } from "../record.js";
import type { CauseRule } from "./rule.js";

const event =
  (weight: number, ...codes: readonly number[]) =>
  (facts: Facts) =>
    facts.iommu === "smmuv3" && facts.code !== undefined && codes.includes(facts.code) ? weight : 0;

export const SMMUV3_RULES: readonly CauseRule[] = [
  {
    id: "smmu-streamid",
    title: "the firmware's tables give the device another StreamID than it sends",
    weight: event(90, 0x02),
    because:
      "the StreamID is outside of the stream table, or in a part of it that nobody set up: no driver attached a device with it",
    distinguish:
      "wrong mapping: the StreamID differs from the requester id by what iommu-map or IORT adds; nobody attached it: the StreamID is the device's own and the device has no driver yet",
    attempt:
      "compare the StreamID with iommu-map of the device tree or the IORT's id mappings; a PCIe host bridge usually maps requester id to StreamID one to one",
    sources: [
      "iommu list 2021-01, Consult on ARM SMMU debugfs (R. Murphy: nearly always a wrong StreamID)",
      "linux-arm-kernel, rk3588 PCIe endpoint: sid 0x1600 follows the peer's requester id",
      "Linux 6.12-rc1: a stream table of one entry after a shift by 32 (fix of ce410410f1a7)",
    ],
  },
  {
    id: "smmu-ste",
    title: "the stream table entry is invalid or ILLEGAL",
    weight: event(85, 0x04),
    because: "STE.V is 0, or its fields contradict each other or the ID registers",
    distinguish:
      "STE.V = 0: DMA before attach or after detach; V = 1: explain the entry's words, reserved and unsupported values are named",
    attempt: "explain the STE (--as STE); compare with IDR0 and IDR1",
    sources: ["IHI0070 7.3.5, 5.2", "linux-arm-kernel, nested stage VFIO: C_BAD_STE in the second run of a guest"],
  },
  {
    id: "smmu-cd",
    title: "the context descriptor is invalid or ILLEGAL",
    weight: event(85, 0x0a),
    because:
      "CD.V is 0 or its fields are impossible; with SSV = 1 it is the one of the SubstreamID: the address space of a process",
    distinguish:
      "SSV = 1 after the process has exited or was unbound: the device was not stopped first; otherwise explain the CD's words",
    attempt:
      "explain the CD (--as CD); stop the device before the PASID is freed; when events flood the log look for one device that retries",
    sources: ["IHI0070 7.3.11, 5.4", "Linux commit 30de2b541af9, event 0x0a with SubstreamID"],
  },
  {
    id: "smmu-substream",
    title: "the SubstreamID (PASID) has no place in the device's CD table",
    weight: event(85, 0x08),
    because: "it is 2^STE.S1CDMax or more, or the stream has no substreams at all",
    distinguish:
      "S1CDMax = 0: PASID was never enabled for the device; otherwise the device sends a PASID that nobody gave it",
    attempt:
      "explain the STE; check PASIDCtl Enable+ and that the driver calls iommu_dev_enable_feature before it binds",
    sources: ["IHI0070 7.3.9, 5.2"],
  },
  {
    id: "smmu-ats-forbidden",
    title: "the device uses ATS where the stream does not allow it",
    weight: event(85, 0x05, 0x07),
    because:
      "a translated transaction or a translation request of a stream with STE.EATS = 0, or with CR0.ATSCHK checking it",
    distinguish:
      "one StreamID that never asked for ATS: the root complex marks its traffic as translated, or the IORT names the wrong stream; a real ATS device: EATS was cleared while its ATC was still on",
    attempt: "lspci -vvv: ATSCtl Enable+ or -; compare the StreamID with the IORT",
    sources: ["IHI0070 7.3.6, 7.3.8", "radxa-pkg/edk2-cix 24"],
  },
  {
    id: "smmu-stream-disabled",
    title: "a transaction without a substream (or with substream 0) where STE.S1DSS forbids it",
    weight: event(85, 0x06),
    because: "S1DSS = 0 terminates transactions that have no SubstreamID; S1DSS = 2 terminates SubstreamID 0",
    distinguish: "look at STE.S1DSS and at what the device sends",
    attempt: "explain the STE (--as STE)",
    sources: ["IHI0070 7.3.7, 5.2"],
  },
  {
    id: "smmu-translation",
    title: "the address is not mapped: never was, or not any more",
    weight: event(60, 0x10),
    because:
      "the address is out of the tables' range, in a range whose walks are disabled, or its descriptor is invalid",
    distinguish:
      "SSV = 1: a process page without a stall or page request to bring it in; SSV = 0: the DMA API's table; record iommu:map and iommu:unmap to tell never mapped from unmapped too early",
    attempt:
      "iommu.passthrough=1: if the fault goes away the driver gives the device physical addresses, or DMA runs on after unmap",
    sources: ["IHI0070 7.3.13", "Linux commit ec5bc2cc69b4 (DMA goes on after free)"],
  },
  {
    id: "smmu-permission",
    title: "mapped for the other direction, read-only, or not for this privilege",
    weight: event(80, 0x13),
    because: "the translation exists and does not allow the access",
    distinguish:
      "RnW = 0 on a page mapped for reading: the wrong direction; PnU = 1 or InD = 1: privilege or execute-never",
    attempt: "look at the direction given to dma_map_* or at the protection of the process's page",
    sources: ["IHI0070 7.3.16", "Avnu/igb_avb pull 11 (the same on VT-d)"],
  },
  {
    id: "smmu-access-flag",
    title: "the access flag of the page is clear",
    weight: event(85, 0x12),
    because: "AF = 0, and neither hardware updates (CD.HA) nor CD.AFFD take care of it",
    distinguish:
      "a process's tables: the kernel cleared the flag to see whether the page is used, and the device cannot set it",
    attempt: "IDR0.HTTU and CD.HA: with them the SMMU sets the flag; without, the fault has to be handled by software",
    sources: ["IHI0070 7.3.15"],
  },
  {
    id: "smmu-address-size",
    title: "a table or an output address does not fit the configured size",
    weight: event(85, 0x11),
    because: "the address has bits above CD.IPS, STE.S2PS or IDR5.OAS",
    distinguish: "the input address is above the range: T0SZ; an entry in the tables: corruption or a wrong IPS",
    attempt: "explain CD and IDR5, walk the tables with --memory",
    sources: ["IHI0070 7.3.14"],
  },
  {
    id: "smmu-fetch",
    title: "the SMMU could not read a structure from memory",
    weight: event(85, 0x03, 0x09, 0x0b),
    because: "an external abort on the address in FetchAddr",
    distinguish:
      "FetchAddr is no RAM: the pointer to the table is wrong; it is RAM: memory protection (firewall, another world) refuses the SMMU",
    attempt: "compare FetchAddr with /proc/iomem and with the pointers in STE and CD",
    sources: ["IHI0070 7.3.4, 7.3.10, 7.3.12"],
  },
];
