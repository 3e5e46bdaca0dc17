/** lspci: configuration space as bytes (`-xxx`, `-xxxx`) and the lines of `-vvv` about PASID, ATS and page requests. */
import { ATS_CAPABILITY, PASID_CAPABILITY, PRI_CAPABILITY } from "@iommukit/core";
import { decodeConfig } from "@iommukit/pci-device";
import { canonicalBdf } from "../hex.js";
import type { Emit, Line, Recogniser } from "../recogniser.js";
import { type ExplainRecord, type Part, partOf } from "../record.js";

const DEVICE = /^((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[01][0-9a-f]\.[0-7]) (\S.*)$/i;
const BYTES = /^([0-9a-f]{2,3}): ((?:[0-9a-f]{2} ){15}[0-9a-f]{2})\s*$/i;
const HEAD =
  /^\tCapabilities: \[([0-9a-f]+)(?: v\d+)?\] (Address Translation Service|Page Request Interface|Process Address Space ID)/;
const SHOWN = new Set(["ATS", "PASID", "PRI", "ACS", "SR-IOV", "SRIOV"]);

interface Device {
  readonly bdf: string;
  readonly title: string;
  readonly line: number;
  readonly bytes: number[];
  readonly lines: string[];
  readonly raw: string[];
}

export class LspciRecogniser implements Recogniser {
  #device: Device | undefined;
  #title: { bdf: string; title: string; line: Line } | undefined;

  take(line: Line, emit: Emit): boolean {
    const { text } = line;
    const head = DEVICE.exec(text);
    if (head !== null) {
      const bdf = canonicalBdf(head[1]);
      if (bdf === undefined || head[2].startsWith("0x")) return false;
      this.end(emit);
      this.#title = { bdf, title: head[2], line };
      return true;
    }
    const title = this.#title;
    if (title === undefined) return false;
    const bytes = BYTES.exec(text);
    const device = this.#device;
    if (bytes !== null) {
      const offset = Number.parseInt(bytes[1], 16);
      if (offset !== (device?.bytes.length ?? 0)) return false;
      const row = bytes[2].split(" ").map((digits) => Number.parseInt(digits, 16));
      const known = device ?? this.#open(title, line);
      known.bytes.push(...row);
      known.raw.push(text);
      return true;
    }
    if (!/^\s+\S/.test(text)) return false;
    const known = device ?? this.#open(title, line);
    known.lines.push(withTabs(text));
    return true;
  }

  #open({ bdf, title, line }: { bdf: string; title: string; line: Line }, _first: Line): Device {
    this.#device = { bdf, title, line: line.number, bytes: [], lines: [], raw: [line.text] };
    return this.#device;
  }

  end(emit: Emit): void {
    const device = this.#device;
    this.#device = undefined;
    this.#title = undefined;
    if (device === undefined) return;
    const parts = device.bytes.length >= 64 ? fromBytes(device.bytes) : fromText(device.lines);
    if (parts === undefined) return;
    emit(record(device, parts));
  }
}

/** Capability ID of PCI Express: functions without it are conventional and have 256 bytes. */
const PCI_EXPRESS = 0x10;

/** What an ordinary user does not get to see. */
function hidden(bytes: readonly number[], lines: readonly string[]): string[] {
  const all =
    bytes.length > 256 || (bytes.length === 256 && !capabilitiesOf(bytes).some(({ id }) => id === PCI_EXPRESS));
  if (bytes.length > 0 && !all)
    return [
      `${bytes.length} bytes of configuration space: ATS, PASID and PRI live above the first 256 (use lspci -xxxx as root)`,
    ];
  return lines.some((text) => text.includes("Capabilities: <access denied>"))
    ? ["capabilities: access denied (use lspci as root)"]
    : [];
}

/** Pasted text often has spaces for lspci's tabs, up to eight for one. */
function withTabs(text: string): string {
  return text.replace(/^ {1,8}(?! )/, "\t").replace(/^ {9,}/, "\t\t");
}

function record({ bdf, title, line, bytes, lines, raw }: Device, parts: readonly Part[]): ExplainRecord {
  const texts = parts.map(({ table, fields }) => {
    const on = (name: string) => fields.some((row) => row.name === name && row.value !== "0x0");
    const enable = on("Enable") || on("PASIDEnable") ? "+" : "-";
    return `${table.replace(/ Extended Capability$/, "").replace("Page Request", "PRI")}: Enable${enable}`;
  });
  const shown = texts.filter((text) => /^(ATS|PASID|PRI)/.test(text));
  return {
    kind: "pci.function",
    line,
    raw,
    summary: `PCI ${bdf}  ${title}  ${shown.length === 0 ? "no ATS, PASID or PRI capability" : shown.join("  ")}`,
    facts: { device: bdf },
    parts,
    notes: hidden(bytes, lines),
  };
}

function fromBytes(bytes: readonly number[]): Part[] {
  const words = new Int32Array(bytes.length >> 2);
  new Uint8Array(words.buffer).set(bytes.slice(0, words.length * 4));
  return capabilitiesOf(bytes)
    .filter(({ name }) => name !== undefined && SHOWN.has(name))
    .flatMap(({ parts }) => parts.map(({ table, offset }) => partOf(table, words, offset >> 2)));
}

function capabilitiesOf(bytes: readonly number[]) {
  return decodeConfig(Uint8Array.from(bytes)).capabilities;
}

/** What the text of -vvv says, put back into the capability's own fields; undefined when it shows no capabilities. */
function fromText(lines: readonly string[]): Part[] | undefined {
  if (!lines.some((text) => /\bCapabilities: [[<]/.test(text))) return undefined;
  const parts: Part[] = [];
  for (const [n, text] of lines.entries()) {
    const head = HEAD.exec(text);
    if (head === null) continue;
    const rest = lines.slice(n + 1);
    const end = rest.findIndex((line) => /^\t\S/.test(line));
    const body = rest.slice(0, end < 0 ? rest.length : end).join("\n");
    parts.push(CAPABILITIES[head[2] as keyof typeof CAPABILITIES](body));
  }
  return parts;
}

const plus = (body: string, pattern: RegExp) => pattern.exec(body)?.[1] === "+";
const number = (body: string, pattern: RegExp, base: number) => Number.parseInt(pattern.exec(body)?.[1] ?? "0", base);

const CAPABILITIES = {
  "Address Translation Service": (body: string) =>
    partOf(
      ATS_CAPABILITY,
      ATS_CAPABILITY.encode({
        CapabilityID: 0x0f,
        InvalidateQueueDepth: number(body, /Invalidate Queue Depth: ([0-9a-f]+)/, 16) & 31,
        STU: number(body, /Smallest Translation Unit: ([0-9a-f]+)/, 16) & 31,
        Enable: plus(body, /ATSCtl:\s+Enable([+-])/),
      }),
    ),
  "Page Request Interface": (body: string) =>
    partOf(
      PRI_CAPABILITY,
      PRI_CAPABILITY.encode({
        CapabilityID: 0x13,
        Enable: plus(body, /PRICtl:\s+Enable([+-])/),
        ResponseFailure: plus(body, /PRISta:\s+RF([+-])/),
        UnexpectedPageRequestGroupIndex: plus(body, /UPRGI([+-])/),
        Stopped: plus(body, /Stopped([+-])/),
        PRGResponsePASIDRequired: plus(body, /PASID([+-])/),
        OutstandingPageRequestCapacity: number(body, /Page Request Capacity: ([0-9a-f]{1,8})/, 16),
        OutstandingPageRequestAllocation: number(body, /Page Request Allocation: ([0-9a-f]{1,8})/, 16),
      }),
    ),
  "Process Address Space ID": (body: string) =>
    partOf(
      PASID_CAPABILITY,
      PASID_CAPABILITY.encode({
        CapabilityID: 0x1b,
        ExecutePermissionSupported: plus(body, /PASIDCap:\s+Exec([+-])/),
        PrivilegedModeSupported: plus(body, /PASIDCap:.*Priv([+-])/),
        MaxPASIDWidth: number(body, /Max PASID Width: ([0-9a-f]+)/, 16) & 31,
        PASIDEnable: plus(body, /PASIDCtl:\s+Enable([+-])/),
        ExecutePermissionEnable: plus(body, /PASIDCtl:.*Exec([+-])/),
        PrivilegedModeEnable: plus(body, /PASIDCtl:.*Priv([+-])/),
      }),
    ),
} as const;
