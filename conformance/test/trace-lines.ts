/** Function traces for the tests of the suite qi-trace. */
import { Report } from "../src/report.js";
import { run } from "../src/runners/qi-trace.js";

/** What the suite prints of a trace: events with their text, all of one task. */
export const replay = (...events: string[]) => judge(events.map((event) => line(event)));

/** @param flags third one: "." a task, "h" an interrupt */
export const line = (event: string, { pid = 259, cpu = 0, flags = "d..1." } = {}) =>
  `   dd-${pid}     [00${cpu}] ${flags}    12.000001: ${event}`;

export async function judge(records: string[]) {
  const lines: string[] = [];
  const report = new Report((text) => lines.push(text));
  await run([{ path: "t", name: "t", document: records, records }], report);
  report.finish();
  return lines;
}

const hex = (value: number) => `0x${value.toString(16)}`;
const range = (iova: number, size: number) => `IOMMU: iova=${hex(iova)} - ${hex(iova + size)}`;

export const mapped = (iova: number, size: number) =>
  `map: ${range(iova, size)} paddr=${hex(0x1000_0000 + iova * 2)} size=${size}`;
export const unmapped = (iova: number, size: number) =>
  `unmap: ${range(iova, size)} size=${size} unmapped_size=${size}`;

/** What 6.11 and later say before they queue for a range. */
export const flushes = (name: string, did: number, iova: number, size: number) =>
  `${name}: dmar0 dmar0[0] type iotlb did ${did} [${hex(iova)}-${hex(iova + size - 1)}] addr ${hex(iova)} mask 0x0`;

/** @param address with mask and hint; absent for the whole domain */
export const iotlb = (did: number, address?: number) =>
  `qi_submit: iotlb_inv dmar0: ${hex(did)}00${address === undefined ? "e2 0x0" : `f2 ${hex(address)}`} 0x0 0x0`;
export const context = (did: number, rid: number) =>
  `qi_submit: cc_inv dmar0: 0x${rid.toString(16)}${did.toString(16).padStart(4, "0")}0031 0x0 0x0 0x0`;
