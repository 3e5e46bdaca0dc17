/** Events of the trace as people say them: who did it stands above, so that a line says what. */
import {
  Access,
  hex,
  type Platform,
  type TraceEvents,
  type TraceName,
  type TraceRecord,
  TranslationStatus,
} from "@iommukit/core";

const withPasid = (pasid: number) => (pasid < 0 ? "" : ` PASID ${pasid}`);
/** Everything there is in 64 bits. */
const SPACE = 1n << 64n;
const span = (start: bigint, size: bigint | number) =>
  BigInt(size) >= SPACE ? "all addresses" : `[${hex(start)}, ${hex(start + BigInt(size))})`;
const letters = (access: number) =>
  [
    [Access.READ, "r"],
    [Access.WRITE, "w"],
    [Access.EXEC, "x"],
  ]
    .filter(([bit]) => (access & Number(bit)) !== 0)
    .map(([, letter]) => letter)
    .join("");
const STATUS = Object.fromEntries(Object.entries(TranslationStatus).map(([name, value]) => [value, name]));

/** What hardware and devices do, also while a thread runs: a register write, a transaction. */
const HARDWARE = /^(dma|translate|config|tlb|cache|table:read|table:updated|command|fault|irq|ats|pri|stall|device)/;

/** Too fine to read, or said by the line after it. */
const SILENT: ReadonlySet<string> = new Set(["config:hit", "tlb:missed", "page:allocated", "domain:compared"]);

export function isSilent({ name }: TraceRecord): boolean {
  return SILENT.has(name);
}

export function isHardware({ name }: TraceRecord): boolean {
  return HARDWARE.test(name);
}

/** Name of a requester: of the device that has that id behind that IOMMU. */
type Who = (unit: string, rid: number) => string;

const SENTENCES: { readonly [K in TraceName]?: (event: TraceEvents[K], who: Who) => string } = {
  "lock:acquired": (event) => `takes ${event.lock}`,
  "lock:released": (event) => `gives ${event.lock} back`,
  "lock:contended": (event) => `waits for ${event.lock}`,
  "table:written": (event) => `${event.table} ${hex(event.address)} := ${hex(event.value)}`,
  "table:read": (event) => `${event.unit} reads ${event.table} ${hex(event.address)} = ${hex(event.value)}`,
  "table:updated": (event) => `${event.unit} updates ${event.table} ${hex(event.address)} := ${hex(event.value)}`,
  "command:consumed": (event) => `${event.unit} ${event.command}`,
  "cache:invalidated": (event) => `${event.unit} ${event.cache} forgets ${event.entries} (${event.scope})`,
  "config:missed": (event, who) =>
    `${event.unit} ${event.cache} miss of ${who(event.unit, event.rid)}${withPasid(event.pasid)}`,
  "tlb:hit": (event) => `${event.unit} ${event.cache} hit at ${hex(event.address)}${withPasid(event.pasid)}`,
  "tlb:filled": (event) =>
    `${event.unit} ${event.cache} takes ${hex(event.address)}${withPasid(event.pasid)} → ${hex(event.pa)}`,
  "translate:completed": (event) =>
    `${event.unit} ${event.kind} ${letters(event.access)} ${hex(event.address)}${withPasid(event.pasid)}: ${STATUS[event.status] ?? event.status}${event.status === TranslationStatus.OK ? ` ${hex(event.pa)}` : ""}`,
  "dma:moved": (event) =>
    `${event.device} ${event.write ? "writes" : "reads"} ${event.length} bytes at ${hex(event.pa)} for ${hex(event.address)}${withPasid(event.pasid)}`,
  "dma:completed": (event) =>
    `${event.device} ends its ${event.write ? "write" : "read"} at ${hex(event.address)}${withPasid(event.pasid)}: ${event.status === 0 ? "ok" : `status ${event.status}`}`,
  "ats:completed": (event, who) =>
    `${who(event.unit, event.rid)} gets ${letters(event.access) || "nothing"} for ${hex(event.address)}${withPasid(event.pasid)}: ${event.status}`,
  "ats:invalidated": (event) =>
    `${event.unit} ATC forgets ${event.entries}: ${span(event.address, event.size)}${withPasid(event.pasid)}`,
  "pri:requested": (event, who) =>
    `${event.unit} ${event.unit === who(event.unit, event.rid) ? "asks" : `is asked by ${who(event.unit, event.rid)}`} for page ${hex(event.address)}${withPasid(event.pasid)}, group ${event.prgi}${event.last ? ", last" : ""}`,
  "pri:answered": (event, who) =>
    `${event.unit} answers ${who(event.unit, event.rid)}${withPasid(event.pasid)} group ${event.prgi}: ${event.code}`,
  "pri:dropped": (event, who) =>
    `${event.unit} drops the page request of ${who(event.unit, event.rid)}${withPasid(event.pasid)} group ${event.prgi}: ${event.reason}`,
  "fault:recorded": (event, who) =>
    `${event.unit} records ${event.fault} of ${who(event.unit, event.rid)}${withPasid(event.pasid)} at ${hex(event.address)}`,
  "irq:raised": (event) => `${event.unit} raises ${event.source}`,
  "device:reset": (event) => `${event.device} is reset (${event.kind})`,
  "mm:unmapped": (event) => `mm ${event.mm} unmaps ${span(event.start, event.end - event.start)}`,
  "mm:notified": (event) => `mm ${event.mm} has told everybody about ${span(event.start, event.end - event.start)}`,
  "mm:released": (event) => `mm ${event.mm} has no mappings any more`,
  "mm:faulted": (event) => `mm ${event.mm} faults in ${hex(event.address)}: ${event.result}`,
  "notifier:called": (event) =>
    `notifier ${event.callback} of mm ${event.mm}${event.callback === "release" ? "" : ` ${span(event.start, event.end - event.start)}`}`,
  "page:freed": (event) =>
    `frees ${hex(event.address)}${event.pages > 1 ? ` and ${event.pages - 1} after it` : ""}, ${event.owner}`,
  "pasid:allocated": (event) => `PASID ${event.pasid} belongs to mm ${event.mm}`,
  "pasid:freed": (event) => `PASID ${event.pasid} is free`,
  "bond:created": (event) => `mm ${event.mm} is bound to ${event.device} with PASID ${event.pasid}`,
  "bond:exited": (event) => `mm_exit of ${event.device} for PASID ${event.pasid} returns ${event.result}`,
  "bond:removed": (event) => `the bond of ${event.device} with PASID ${event.pasid} is gone`,
  "iopf:handled": (event) =>
    `page fault of ${event.device} PASID ${event.pasid} at ${hex(event.address)}: ${event.code}`,
  "iopf:answered": (event) => `group ${event.grpid} of ${event.device} PASID ${event.pasid} is answered: ${event.code}`,
  "iopf:dropped": (event) =>
    `group ${event.grpid} of ${event.device} PASID ${event.pasid} is forgotten: ${event.reason}`,
  "domain:attached": (event) => `${event.device} is attached to domain ${event.domain}`,
  "domain:detached": (event) => `${event.device} is detached from domain ${event.domain}`,
  "iommu:mapped": (event) => `domain ${event.domain} maps ${span(event.iova, event.size)} → ${hex(event.pa)}`,
  "iommu:unmapped": (event) => `domain ${event.domain} unmaps ${span(event.iova, event.size)}`,
  "iommu:synced": (event) => `domain ${event.domain}: no cache holds ${hex(event.start)} … ${hex(event.end)}`,
  "ioctl:returned": (event) => `ioctl ${hex(event.request)} of pid ${event.pid} returns ${event.error ?? event.result}`,
  "task:exited": (event) => `pid ${event.pid} (${event.task}) has exited`,
  "log:printed": (event) => `prints "${event.line}"`,
};

/** @returns what turns events of that machine into sentences */
export function sentences({ devices }: Platform): (record: TraceRecord) => string {
  const who: Who = (unit, rid) => {
    for (const [name, device] of devices)
      if (name === unit || (device.rid === rid && device.iommu?.name === unit)) return name;
    return `requester ${hex(rid)}`;
  };
  return (record) => {
    const sentence = SENTENCES[record.name] as ((event: TraceRecord, who: Who) => string) | undefined;
    return sentence?.(record, who) ?? rest(record);
  };
}

/** An event without a sentence of its own, perhaps of a user's package. */
function rest({ name, time: _time, ...fields }: TraceRecord): string {
  const values = Object.entries(fields)
    .filter(([, value]) => !Array.isArray(value))
    .map(([key, value]) => `${key}=${typeof value === "bigint" ? hex(value) : value}`);
  return [name, ...values].join(" ");
}
