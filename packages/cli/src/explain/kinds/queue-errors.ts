/**
 * Linux's messages about queues: VT-d invalidation errors (IQER), AMD's invalidation time-out, SMMUv3 page requests that nobody
 * wanted, and queues that overflowed.
 */
import { PRIQ_ENTRY } from "@iommukit/iommu-smmuv3";
import { IQER, PRS } from "@iommukit/iommu-vtd";
import { bdfOf, canonicalBdf, hex, ridOf } from "../hex.js";
import type { Emit, Line, Recogniser } from "../recogniser.js";
import { type ExplainRecord, type Facts, type Part, partOf } from "../record.js";

const INVALIDATION =
  /VT-d detected Invalidation (Time-out|Completion|Queue) Error: (?:SID|Reason) ([0-9a-f]{1,4})\s*$/i;
const AMD_TIMEOUT = /AMD-Vi: Event logged \[IOTLB_INV_TIMEOUT device=([0-9a-f:.]+) address=(0x[0-9a-f]{1,16})\]/i;
const PAGE_REQUEST =
  /\bsid 0x([0-9a-f]{8})\.0x([0-9a-f]{5}): \[(\d{1,3})(L?)\] (un)?privileged (R?)(W?)(X?) access at iova 0x([0-9a-f]{16})/;
const OVERFLOW =
  /(arm-smmu-v3 \S+): (EVTQ|PRIQ) overflow detected -- (events|requests) lost|(dmar\d+): PRQ overflow detected/i;

export class QueueErrorRecogniser implements Recogniser {
  take(line: Line, emit: Emit): boolean {
    const record = invalidation(line) ?? amdTimeout(line) ?? pageRequest(line) ?? overflow(line);
    if (record !== undefined) emit(record);
    return record !== undefined;
  }
}

function record(
  line: Line,
  kind: string,
  summary: string,
  facts: Facts,
  parts: readonly Part[],
  notes: readonly string[] = [],
) {
  return { kind, line: line.number, raw: [line.text], summary, facts, parts, notes } satisfies ExplainRecord;
}

function invalidation(line: Line): ExplainRecord | undefined {
  const match = INVALIDATION.exec(line.text);
  if (match === null) return undefined;
  const value = Number.parseInt(match[2], 16);
  const kind = match[1].toLowerCase();
  if (kind === "queue" && value > 15) return undefined;
  const field = { "time-out": "ITESID", completion: "ICESID", queue: "IQEI" }[kind] ?? "IQEI";
  const words = IQER.encode({ [field]: value });
  const name = { "time-out": "ITE", completion: "ICE", queue: "IQE" }[kind];
  const dead =
    value === 0xffff || (kind === "queue" && value === 15) ? ["all ones: the unit's registers could not be read"] : [];
  if (kind === "queue") {
    const reason = IQER.IQEI.decode(words);
    return record(
      line,
      "vtd.queue-error",
      `VT-d FSTS.IQE  invalidation queue error: ${reason}`,
      { iommu: "vtd", name },
      [partOf(IQER, words)],
      dead,
    );
  }
  const what =
    kind === "time-out" ? "a device did not complete an invalidation of its TLB" : "an unexpected completion";
  const facts: Facts = { iommu: "vtd", name, sid: value, device: bdfOf(value) };
  return record(
    line,
    "vtd.queue-error",
    `VT-d FSTS.${name}  ${what}: source-id ${bdfOf(value)}`,
    facts,
    [partOf(IQER, words)],
    dead,
  );
}

function amdTimeout(line: Line): ExplainRecord | undefined {
  const match = AMD_TIMEOUT.exec(line.text);
  const device = match === null ? undefined : canonicalBdf(match[1]);
  if (match === null || device === undefined) return undefined;
  const facts: Facts = { iommu: "amd-vi", name: "IOTLB_INV_TIMEOUT", device, sid: ridOf(device) };
  const summary = `AMD-Vi IOTLB_INV_TIMEOUT  ${device}  a device did not complete an invalidation of its TLB; command at ${hex(BigInt(match[2]))}`;
  return record(line, "amd-vi.invalidation-timeout", summary, facts, []);
}

function pageRequest(line: Line): ExplainRecord | undefined {
  const match = PAGE_REQUEST.exec(line.text);
  if (match === null || Number(match[3]) > 511) return undefined;
  const [, sid, ssid, group, last, un, read, write, execute, address] = match;
  const [stream, substream] = [Number(`0x${sid}`), Number(`0x${ssid}`)];
  const words = PRIQ_ENTRY.encode({
    StreamID: stream,
    SubstreamID: substream,
    SSV: substream !== 0,
    PRGIndex: Number(group),
    Last: last === "L",
    Priv: un === undefined,
    R: read === "R",
    W: write === "W",
    X: execute === "X",
    PageAddress: BigInt(`0x${address}`) & ~0xfffn,
  });
  const facts: Facts = {
    iommu: "smmuv3",
    name: "page request",
    sid: stream,
    pasid: substream === 0 ? undefined : substream,
    address: BigInt(`0x${address}`),
  };
  const rights = `${read}${write}${execute}`;
  const summary = `SMMUv3 page request  StreamID ${hex(stream)} SubstreamID ${hex(substream)}  ${rights} ${hex(BigInt(`0x${address}`))}  group ${group}${last === "L" ? ", last" : ""}: nobody handles it`;
  return record(line, "smmuv3.page-request", summary, facts, [partOf(PRIQ_ENTRY, words)]);
}

function overflow(line: Line): ExplainRecord | undefined {
  const match = OVERFLOW.exec(line.text);
  if (match === null) return undefined;
  if (match[4] !== undefined) {
    const parts = [partOf(PRS, PRS.encode({ PRO: true }))];
    return record(
      line,
      "vtd.queue-error",
      `VT-d PRS.PRO  ${match[4]}: the page request queue overflowed, requests were lost`,
      { iommu: "vtd", name: "PRO" },
      parts,
    );
  }
  const queue = match[2].toUpperCase();
  return record(
    line,
    "smmuv3.queue-error",
    `SMMUv3 ${queue} overflow  ${match[1]}: ${match[3]} were lost`,
    { iommu: "smmuv3", name: `${queue} overflow` },
    [],
  );
}
