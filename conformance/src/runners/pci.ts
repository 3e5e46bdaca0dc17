/**
 * `pci`: configuration space of real devices. Header, capability chain and every field that the vectors name as expected;
 * putting the decoded form together again gives the same bytes.
 */
import type { FieldValue } from "@iommukit/core";
import {
  CAPABILITY_FORMATS,
  type DecodedCapability,
  type DecodedConfig,
  decodeConfig,
  EXTENDED_CAPABILITY_FORMATS,
  encodeConfig,
} from "@iommukit/pci-device";
import { type LoadedFile, listIn } from "../load.js";
import type { Report } from "../report.js";

interface ExpectedCapability {
  readonly offset: number;
  readonly id: number;
  readonly name: string;
  readonly version?: number;
  readonly next: number;
  readonly fields?: Readonly<Record<string, unknown>>;
}

interface PciDeviceCase {
  readonly source_file: string;
  readonly slot: string;
  readonly config_hex: string;
  readonly config_len: number;
  readonly expected: Readonly<Record<string, unknown>> & {
    readonly capabilities: {
      readonly standard: readonly ExpectedCapability[];
      readonly extended: readonly ExpectedCapability[];
    };
  };
}

type Fields = Readonly<Record<string, FieldValue>>;
/** Computes one expected value from a capability's fields and its raw words. */
type Compute = (fields: Fields, word: (index: number) => number, capability: DecodedCapability) => unknown;

/** A field under the specification's name; booleans count as numbers. */
function field(name: string): Compute {
  return (fields) => Number(fields[name]);
}

const low16 =
  (index: number): Compute =>
  (_fields, word) =>
    word(index) & 0xffff;
const high16 =
  (index: number): Compute =>
  (_fields, word) =>
    word(index) >>> 16;
const dword =
  (index: number): Compute =>
  (_fields, word) =>
    word(index) >>> 0;

function acsBits(raw: Compute): Compute {
  const names = [
    "src_valid",
    "trans_block",
    "req_redirect",
    "cmplt_redirect",
    "upstream_fwd",
    "egress_ctrl",
    "direct_trans",
  ];
  return (fields, word, capability) => {
    const value = raw(fields, word, capability) as number;
    return Object.fromEntries(names.map((name, bit) => [name, (value >> bit) & 1]));
  };
}

function serial(fields: Fields): string {
  const half = (name: string) => Number(fields[name]).toString(16).padStart(8, "0");
  return (half("SerialNumberUpper") + half("SerialNumberLower")).replace(/(..)(?!$)/g, "$1-");
}

/** From the vectors' names to ours, per capability. */
const FIELDS: Readonly<Record<string, Readonly<Record<string, Compute>>>> = {
  MSI: {
    enable: field("MSIEnable"),
    multi_capable_log2: field("MultipleMessageCapable"),
    multi_enable_log2: field("MultipleMessageEnable"),
    addr64: field("AddressCapable64Bit"),
    maskable: field("PerVectorMaskingCapable"),
  },
  MSIX: {
    enable: field("MSIXEnable"),
    fmask: field("FunctionMask"),
    table_size: (fields) => Number(fields.TableSize) + 1,
    table_bir: field("TableBIR"),
    table_offset: (fields) => Number(fields.TableOffset) * 8,
    pba_bir: field("PBABIR"),
    pba_offset: (fields) => Number(fields.PBAOffset) * 8,
  },
  EXP: {
    version: field("CapabilityVersion"),
    device_port_type: (_fields, word) => (word(0) >>> 20) & 15,
    flr_capable: field("FunctionLevelResetCapability"),
    end_end_tlp_prefix_supported: field("EndEndTLPPrefixSupported"),
    ext_fmt_supported: field("ExtendedFmtFieldSupported"),
    max_end_end_tlp_prefixes_raw: field("MaxEndEndTLPPrefixes"),
  },
  AER: {
    uncor_status: dword(1),
    uncor_mask: dword(2),
    uncor_severity: dword(3),
    cor_status: dword(4),
    cor_mask: dword(5),
    cap_ctl: dword(6),
  },
  DSN: { serial_hex: serial },
  ACS: { cap_raw: low16(1), ctl_raw: high16(1), cap: acsBits(low16(1)), ctl: acsBits(high16(1)) },
  ARI: {
    cap_raw: low16(1),
    ctl_raw: high16(1),
    mfvc: field("MFVCFunctionGroupsCapability"),
    acs: field("ACSFunctionGroupsCapability"),
    next_function: field("NextFunctionNumber"),
  },
  ATS: {
    cap_raw: low16(1),
    ctl_raw: high16(1),
    invalidate_queue_depth: field("InvalidateQueueDepth"),
    invalidate_queue_depth_effective: (fields) => Number(fields.InvalidateQueueDepth) || 32,
    page_aligned_request: field("PageAlignedRequest"),
    global_invalidate: field("GlobalInvalidateSupported"),
    relaxed_ordering: field("RelaxedOrderingSupported"),
    enable: field("Enable"),
    stu: field("STU"),
    stu_bytes: (fields) => 2 ** (12 + Number(fields.STU)),
  },
  SRIOV: {
    cap_raw: dword(1),
    ctl_raw: low16(2),
    status_raw: high16(2),
    initial_vfs: field("InitialVFs"),
    total_vfs: field("TotalVFs"),
    num_vfs: field("NumVFs"),
    function_dep_link: field("FunctionDependencyLink"),
    vf_offset: field("FirstVFOffset"),
    vf_stride: field("VFStride"),
    vf_device_id: field("VFDeviceID"),
    supported_page_sizes: field("SupportedPageSizes"),
    system_page_size: field("SystemPageSize"),
  },
  PRI: {
    ctl_raw: low16(1),
    status_raw: high16(1),
    enable: field("Enable"),
    reset: field("Reset"),
    response_failure: field("ResponseFailure"),
    unexpected_prgi: field("UnexpectedPageRequestGroupIndex"),
    stopped: field("Stopped"),
    prg_response_pasid_required: field("PRGResponsePASIDRequired"),
    outstanding_capacity: field("OutstandingPageRequestCapacity"),
    outstanding_allocation: field("OutstandingPageRequestAllocation"),
  },
  PASID: {
    cap_raw: low16(1),
    ctl_raw: high16(1),
    exec_supported: field("ExecutePermissionSupported"),
    priv_supported: field("PrivilegedModeSupported"),
    max_pasid_width: field("MaxPASIDWidth"),
    enable: field("PASIDEnable"),
    exec_enable: field("ExecutePermissionEnable"),
    priv_enable: field("PrivilegedModeEnable"),
  },
  PTM: { cap_raw: dword(1), ctl_raw: dword(2) },
};

export const holds = "configuration space of devices";

export function recognises(file: LoadedFile): boolean {
  return listIn<PciDeviceCase>(file, "devices").some((device) => typeof device?.config_hex === "string");
}

export async function run(files: LoadedFile[], report: Report): Promise<void> {
  for (const device of files.flatMap((file) => listIn<PciDeviceCase>(file, "devices")))
    await report.attempt(`${device?.source_file} ${device?.slot}`, () => judge(device as PciDeviceCase, report));
}

function judge(device: PciDeviceCase, report: Report): void {
  const where = `${device.source_file} ${device.slot}`;
  const bytes = Uint8Array.from(device.config_hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
  const decoded = decodeConfig(bytes);
  const words = new Int32Array(bytes.slice().buffer, 0, bytes.length >> 2);
  compare(report, `${where} encode(decode)`, hexOf(encodeConfig(decoded)), device.config_hex);
  for (const [name, found] of Object.entries(headerOf(decoded, words))) {
    if (!(name in device.expected)) continue;
    // Null for a CardBus bridge: the vectors read the subsystem of endpoints only.
    if (name === "subsystem" && decoded.header.fields.HeaderLayout === 2 && device.expected[name] === null) continue;
    compare(report, `${where} ${name}`, found, device.expected[name]);
  }
  const { standard, extended } = device.expected.capabilities;
  judgeChain(
    report,
    where,
    standard,
    decoded.capabilities.filter((cap) => !cap.extended),
    words,
  );
  judgeChain(
    report,
    where,
    extended,
    decoded.capabilities.filter((cap) => cap.extended),
    words,
  );
}

/** Reserved bits of Command and Status count too, so those come from the words. */
function headerOf({ header: { fields } }: DecodedConfig, words: Int32Array): Record<string, unknown> {
  const hasSubsystem = fields.HeaderLayout === 0 || (fields.SubsystemID !== undefined && fields.HeaderLayout === 2);
  return {
    vendor: fields.VendorID,
    device: fields.DeviceID,
    command: words[1] & 0xffff,
    status: words[1] >>> 16,
    revision: fields.RevisionID,
    class_code: fields.ClassCode,
    header_type: fields.HeaderLayout,
    multifunction: Number(fields.MultiFunctionDevice),
    subsystem: hasSubsystem ? [fields.SubsystemVendorID, fields.SubsystemID] : null,
  };
}

function judgeChain(
  report: Report,
  where: string,
  expected: readonly ExpectedCapability[],
  found: readonly DecodedCapability[],
  words: Int32Array,
): void {
  const chain = (list: readonly { readonly offset: number; readonly id: number; readonly next: number }[]) =>
    list.map(({ offset, id, next }) => [offset, id, next]);
  compare(report, `${where} chain`, chain(found), chain(expected));
  for (const want of expected) {
    const capability = found.find(({ offset }) => offset === want.offset);
    if (capability)
      judgeCapability(report, `${where} ${want.name}@0x${want.offset.toString(16)}`, want, capability, words);
  }
}

const NAMES: ReadonlySet<string> = new Set(
  [...CAPABILITY_FORMATS.values(), ...EXTENDED_CAPABILITY_FORMATS.values()].map(({ name }) => name),
);

function judgeCapability(
  report: Report,
  where: string,
  want: ExpectedCapability,
  capability: DecodedCapability,
  words: Int32Array,
): void {
  if (capability.name === undefined) {
    report.notApplicable(`capability ${want.name} (id 0x${want.id.toString(16)}) has no table`);
    return;
  }
  // The id says what a capability is; a short name of the vectors' own is no difference, another capability's name is one.
  if (NAMES.has(want.name)) compare(report, `${where} name`, capability.name, want.name);
  if (want.version !== undefined) compare(report, `${where} version`, capability.version, want.version);
  const fields = capability.parts[0]?.fields ?? {};
  const word = (index: number) => words[capability.offset / 4 + index] ?? 0;
  for (const [name, value] of Object.entries(want.fields ?? {})) {
    const computeField = FIELDS[capability.name]?.[name];
    if (computeField) compare(report, `${where} ${name}`, computeField(fields, word, capability), value);
    else report.fail(`${where}: the vectors name a field ${name} that has no counterpart`);
  }
}

function compare(report: Report, where: string, found: unknown, expected: unknown): void {
  if (JSON.stringify(found) === JSON.stringify(expected)) report.pass();
  else report.fail(`${where}: ${JSON.stringify(found)}, expected ${JSON.stringify(expected)}`);
}

function hexOf(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
