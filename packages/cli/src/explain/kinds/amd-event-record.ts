/**
 * The AMD-Vi events that are no refused access: entries and commands that the IOMMU cannot use, and its own trouble with memory
 * (AMD 48882 2.5, event log). Linux prints bits 27:16 of the second word as "flags".
 */
import { type AnyLayout, bit, layout, oneOf, reserved } from "@iommukit/core";
import { bdfOf, hex } from "../hex.js";
import type { Line } from "../recogniser.js";
import { type ExplainRecord, partOf, reservedNotes } from "../record.js";
import { type AmdEvent, amdFacts, amdFault } from "./amd-fault-record.js";

const SPEC = "AMD 48882 2.5";

const DEVICE_TABLE_FLAGS = layout(
  { name: "ILLEGAL_DEV_TABLE_ENTRY flags", bits: 12, spec: SPEC },
  {
    GN: bit(0, "the address is a guest virtual address"),
    _2_1: reserved(2, 1),
    I: bit(3, "an interrupt request, not a memory access"),
    _4: reserved(4),
    RW: bit(5, "write", { condition: "TR = 0, I = 0" }),
    _6: reserved(6),
    RZ: bit(7, "a reserved bit is set in the entry; 0: an invalid level encoding"),
    TR: bit(8, "a translation request; 0: a transaction"),
    _11_9: reserved(11, 9),
  },
);

const HARDWARE_ERROR_FLAGS = layout(
  { name: "hardware error flags", bits: 12, spec: SPEC },
  {
    GN: bit(0, "the address is a guest virtual address; page tables only"),
    _2_1: reserved(2, 1),
    I: bit(3, "an interrupt request, not a memory access"),
    _4: reserved(4),
    RW: bit(5, "write", { condition: "TR = 0, I = 0" }),
    _7_6: reserved(7, 6),
    TR: bit(8, "a translation request; 0: a transaction"),
    Type: oneOf(10, 9, { "master abort": 1, "target abort": 2, "data error": 3 }, "what memory answered"),
    _11: reserved(11),
  },
);

interface Event {
  readonly meaning: string;
  readonly flags?: AnyLayout;
}

/** By Linux's names. */
const EVENTS: Readonly<Record<string, Event>> = {
  ILLEGAL_DEV_TABLE_ENTRY: {
    meaning: "the device's table entry is not one that the IOMMU can use",
    flags: DEVICE_TABLE_FLAGS,
  },
  DEV_TAB_HARDWARE_ERROR: { meaning: "the device table could not be read", flags: HARDWARE_ERROR_FLAGS },
  PAGE_TAB_HARDWARE_ERROR: { meaning: "a page table could not be read", flags: HARDWARE_ERROR_FLAGS },
  ILLEGAL_COMMAND_ERROR: { meaning: "a command of the buffer is none; the IOMMU has stopped fetching" },
  COMMAND_HARDWARE_ERROR: { meaning: "the command buffer could not be read", flags: HARDWARE_ERROR_FLAGS },
  IO_PAGE_FAULT: { meaning: "an access that no translation allows" },
  IOTLB_INV_TIMEOUT: { meaning: "a device did not complete an invalidation of its TLB" },
  INVALID_PPR_REQUEST: { meaning: "a page request that the device may not send" },
  RMP_HW_ERROR: { meaning: "the reverse map table could not be read" },
  RMP_PAGE_FAULT: { meaning: "the reverse map table does not give the page to the device's owner" },
};

/** The event code in bits 31:28 of the second word. */
const CODES: Readonly<Record<number, string>> = {
  1: "ILLEGAL_DEV_TABLE_ENTRY",
  2: "IO_PAGE_FAULT",
  3: "DEV_TAB_HARDWARE_ERROR",
  4: "PAGE_TAB_HARDWARE_ERROR",
  5: "ILLEGAL_COMMAND_ERROR",
  6: "COMMAND_HARDWARE_ERROR",
  7: "IOTLB_INV_TIMEOUT",
  8: "INVALID_DEVICE_REQUEST",
  9: "INVALID_PPR_REQUEST",
};

/** Undefined for an event that has no meaning here, or flags that are no event's. */
export function amdEvent(line: Line, fault: AmdEvent, raw: readonly string[] = [line.text]): ExplainRecord | undefined {
  const { event, device, address, flags } = fault;
  if (address !== undefined && flags !== undefined) {
    const record = amdFault(line, { ...fault, address, flags }, raw);
    if (record !== undefined) return record;
  }
  const known = Object.hasOwn(EVENTS, event) ? EVENTS[event] : undefined;
  if (known === undefined || (flags !== undefined && flags > 0xfff)) return undefined;
  const words = Int32Array.of(flags ?? 0);
  const table = flags === undefined ? undefined : known.flags;
  const where = address === undefined ? "" : `  ${hex(address)}`;
  return {
    kind: "amd-vi.event",
    line: line.number,
    raw,
    summary: `AMD-Vi ${event}  ${device === undefined ? "" : `${device}  `}${known.meaning}${where}${flags === undefined ? "" : `  flags ${hex(flags, 4)}`}`,
    facts: amdFacts(fault),
    parts: table === undefined ? [] : [partOf(table, words)],
    notes: table === undefined ? [] : reservedNotes(table, words),
  };
}

/** An event of the log as its four 32-bit words, in hexadecimal. */
export function amdEventOfWords(line: Line, digits: readonly string[]): ExplainRecord | undefined {
  const [w0, w1, w2, w3] = digits.map((word) => Number.parseInt(word, 16));
  const event = CODES[w1 >>> 28];
  const pasid = (((w0 >>> 16) & 15) << 16) | (w1 & 0xffff);
  const guest = ((w1 >>> 16) & 1) === 1;
  return event === undefined
    ? undefined
    : amdEvent(line, {
        event,
        device: event.includes("COMMAND") ? undefined : bdfOf(w0 & 0xffff),
        pasid: guest ? pasid : undefined,
        address: (BigInt(w3 >>> 0) << 32n) | BigInt(w2 >>> 0),
        flags: (w1 >>> 16) & 0xfff,
      });
}
