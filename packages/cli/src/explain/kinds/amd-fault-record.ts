/**
 * AMD-Vi events as far as kernels print them: the flags of IO_PAGE_FAULT (AMD 48882, IO_PAGE_FAULT event) and the type of
 * INVALID_DEVICE_REQUEST. AMD-Vi is no backend here, so these two small tables live beside their only reader.
 */
import { bit, layout, reserved, uint } from "@iommukit/core";
import { hex, ridOf } from "../hex.js";
import type { Line } from "../recogniser.js";
import { type ExplainRecord, type Facts, partOf, reservedNotes } from "../record.js";

const SPEC = "AMD 48882, event log";

/** Bits 27:16 of the event's second word, which Linux and Xen print as "flags". */
export const IO_PAGE_FAULT_FLAGS = layout(
  { name: "IO_PAGE_FAULT flags", bits: 12, spec: SPEC },
  {
    GN: bit(0, "the address is a guest virtual address"),
    NX: bit(1, "an execute was requested"),
    US: bit(2, "user privilege"),
    I: bit(3, "an interrupt request, not a memory access"),
    PR: bit(4, "the translation was present: the fault is about permissions or reserved bits"),
    RW: bit(5, "write", { condition: "PR = 1, TR = 0, I = 0" }),
    PE: bit(6, "the access lacks permission", { condition: "PR = 1" }),
    RZ: bit(7, "a reserved bit is set in an entry; 0: invalid level encoding", { condition: "PR = 1" }),
    TR: bit(8, "a translation request; 0: a transaction"),
    _11_9: reserved(11, 9),
  },
);

export const INVALID_DEVICE_REQUEST_FLAGS = layout(
  { name: "INVALID_DEVICE_REQUEST flags", bits: 12, spec: SPEC },
  {
    GN: bit(0, "the address is a guest virtual address"),
    _7_1: reserved(7, 1),
    TR: bit(8, "a translation request; 0: a transaction"),
    Type: uint(11, 9, "which rule the request broke"),
  },
);

const TABLES = { IO_PAGE_FAULT: IO_PAGE_FAULT_FLAGS, INVALID_DEVICE_REQUEST: INVALID_DEVICE_REQUEST_FLAGS } as const;

/** What an event's line or its entry of the log says. */
export interface AmdEvent {
  readonly event: string;
  readonly device: string | undefined;
  readonly pasid?: number;
  readonly address: bigint | undefined;
  readonly flags: number | undefined;
}

export interface AmdFault extends AmdEvent {
  readonly address: bigint;
  readonly flags: number;
}

export function amdFacts({ event, device, pasid, address }: AmdEvent): Facts {
  const sid = device === undefined ? undefined : ridOf(device);
  return { iommu: "amd-vi", name: event, device, sid, pasid, address };
}

/** Undefined for an event that has no table here: such a line is reported as not understood. */
export function amdFault(line: Line, fault: AmdFault, raw: readonly string[] = [line.text]): ExplainRecord | undefined {
  const { event, device, address, flags } = fault;
  const table = Object.hasOwn(TABLES, event) ? TABLES[event as keyof typeof TABLES] : undefined;
  if (table === undefined || flags >= 1 << table.bits) return undefined;
  const words = Int32Array.of(flags);
  const page = event === "IO_PAGE_FAULT";
  const on = (field: { get(words: Int32Array): number }) => field.get(words) === 1;
  const present = page && on(IO_PAGE_FAULT_FLAGS.PR);
  const interrupt = page && on(IO_PAGE_FAULT_FLAGS.I);
  const access = present && !interrupt ? (on(IO_PAGE_FAULT_FLAGS.RW) ? "write" : "read") : undefined;
  const names = table.fields.filter((f) => f.spec.kind === "bit" && f.get(words) === 1).map(({ name }) => `${name}+`);
  const verdict = !page
    ? `type ${INVALID_DEVICE_REQUEST_FLAGS.Type.get(words)}`
    : interrupt
      ? "interrupt request blocked"
      : present
        ? "mapped, access refused"
        : "not mapped";
  return {
    kind: page ? "amd-vi.page-fault" : "amd-vi.invalid-device-request",
    line: line.number,
    raw,
    summary: `AMD-Vi ${event}  ${device ?? "unknown device"}  ${access ?? (interrupt ? "interrupt" : "access")} ${hex(address)}  flags ${[hex(flags, 4), ...names].join(" ")}: ${verdict}`,
    facts: {
      ...amdFacts(fault),
      access,
      interrupt,
      permission: page && !interrupt ? present : undefined,
    },
    parts: [partOf(table, words)],
    notes: reservedNotes(table, words),
  };
}
