/**
 * Fault records (VT-d 11.4.7.6) and fault reasons (table 15 in 5.1.4.1, table 30 in 7.1.3). Left out: the reasons of the
 * host permission table.
 */
import { addr, bit, layout, oneOf, reserved, uint } from "@iommukit/core";

export const FRCD_FIELDS = {
  R0: reserved(11, 0),
  FI: addr(63, 12, "fault information: page address; for interrupts the index in 63:48", { access: "ro" }),
  SID: uint(79, 64, "source-id", { access: "ro" }),
  R1: reserved(91, 80),
  T2: bit(92, "type, with T1: 00 write, 01 page request, 10 read, 11 atomic", { access: "ro" }),
  PRIV: bit(93, "supervisor privilege was requested", { access: "ro", condition: "PP" }),
  EXE: bit(94, "execute permission was requested", { access: "ro", condition: "PP" }),
  PP: bit(95, "the request had a PASID", { access: "ro" }),
  FR: uint(103, 96, "fault reason", { access: "ro" }),
  PV: uint(123, 104, "PASID", { access: "ro", condition: "PP" }),
  AT: oneOf(125, 124, { untranslated: 0, translationRequest: 1, translated: 2 }, "address type", { access: "ro" }),
  T1: bit(126, "type: 0 write or page request, 1 read or atomic (T)", { access: "ro" }),
  F: bit(127, "a fault is recorded; write one to clear", { access: "w1c" }),
} as const;

export const FRCD = layout(
  { name: "FRCD", bits: 128, spec: "VT-d 11.4.7.6", summary: "Fault recording register." },
  FRCD_FIELDS,
);

/** What a translation request gets beside the record. */
export type AtsAnswer = "UR" | "CA" | "empty" | "none";

/** One row of table 15 or 30. */
export interface FaultReason {
  readonly code: number;
  /** The condition's name: "LRT.2", "SFS.1". */
  readonly condition: string;
  /** What Linux prints for the code; ours where Linux prints "Unknown". */
  readonly meaning: string;
  /** False when Linux has no text for it. */
  readonly linux: boolean;
  /** Not recorded when FPD is set in an entry on the way to it (7.1.1). */
  readonly qualified: boolean;
  /** Answer to a translation request: "empty" is a success without permissions, and then nothing is recorded. */
  readonly translationRequest: AtsAnswer;
  /** How a translated request is terminated. */
  readonly translatedRequest: AtsAnswer;
}

function reason(code: number, condition: string, meaning: string, rest: Partial<FaultReason> = {}): FaultReason {
  return {
    code,
    condition,
    meaning,
    linux: true,
    qualified: true,
    translationRequest: "none",
    translatedRequest: "none",
    ...rest,
  };
}

const NOT_QUALIFIED = { qualified: false } as const;
const OURS = { linux: false } as const;
/** Blocked by a valid table: the device has to stop asking. */
const UR = { translationRequest: "UR", translatedRequest: "UR" } as const;
/** An error in a table. */
const CA = { translationRequest: "CA", translatedRequest: "UR" } as const;
const CA_BOTH = { translationRequest: "CA", translatedRequest: "CA" } as const;
/** Recoverable: the device may send a page request. */
const EMPTY = { translationRequest: "empty", translatedRequest: "UR" } as const;

/** Legacy-mode translation. */
export const LegacyFault = {
  ROOT_NOT_PRESENT: reason(0x01, "LRT.2", "Present bit in root entry is clear", { ...UR, ...NOT_QUALIFIED }),
  CONTEXT_NOT_PRESENT: reason(0x02, "LCT.2", "Present bit in context entry is clear", UR),
  CONTEXT_INVALID: reason(0x03, "LCT.4", "Invalid context entry", CA),
  BEYOND_MGAW: reason(0x04, "LGN.1", "Access beyond MGAW", EMPTY),
  WRITE_DENIED: reason(0x05, "LGN.2", "PTE Write access is not set", EMPTY),
  READ_DENIED: reason(0x06, "LGN.3", "PTE Read access is not set", EMPTY),
  PAGING_ENTRY_ACCESS: reason(0x07, "LSS.1", "Next page table ptr is invalid", CA),
  ROOT_ACCESS: reason(0x08, "LRT.1", "Root table address invalid", { ...CA, ...NOT_QUALIFIED }),
  CONTEXT_ACCESS: reason(0x09, "LCT.1", "Context table ptr is invalid", { ...CA, ...NOT_QUALIFIED }),
  ROOT_RESERVED: reason(0x0a, "LRT.3", "non-zero reserved fields in RTP", { ...CA, ...NOT_QUALIFIED }),
  CONTEXT_RESERVED: reason(0x0b, "LCT.3", "non-zero reserved fields in CTP", CA),
  PAGING_ENTRY_RESERVED: reason(0x0c, "LSS.2", "non-zero reserved fields in PTE", CA),
  TRANSLATION_TYPE_BLOCKED: reason(0x0d, "LCT.5", "PCE for translation request specifies blocking", UR),
  INTERRUPT_ADDRESS: reason(0x0e, "LGN.4", "Translated address is in the interrupt address range", { ...CA, ...OURS }),
} as const;

/** Interrupt remapping. */
export const InterruptFault = {
  REQUEST_RESERVED: reason(
    0x20,
    "IR.20h",
    "Detected reserved fields in the decoded interrupt-remapped request",
    NOT_QUALIFIED,
  ),
  INDEX_TOO_LARGE: reason(0x21, "IR.21h", "Interrupt index exceeded the interrupt-remapping table size", NOT_QUALIFIED),
  IRTE_NOT_PRESENT: reason(0x22, "IR.22h", "Present field in the IRTE entry is clear"),
  TABLE_ACCESS: reason(0x23, "IR.23h", "Error accessing interrupt-remapping table pointed by IRTA_REG", NOT_QUALIFIED),
  IRTE_RESERVED: reason(0x24, "IR.24h", "Detected reserved fields in the IRTE entry"),
  COMPATIBILITY_BLOCKED: reason(0x25, "IR.25h", "Blocked a compatibility format interrupt request", NOT_QUALIFIED),
  SOURCE_ID: reason(0x26, "IR.26h", "Blocked an interrupt request due to source-id verification failure"),
  DESCRIPTOR_ACCESS: reason(0x27, "IR.27h", "Error accessing the posted interrupt descriptor", OURS),
  DESCRIPTOR_RESERVED: reason(0x28, "IR.28h", "Non-zero reserved field in the posted interrupt descriptor", OURS),
  NOT_AN_INTERRUPT: reason(0x29, "IR.29h", "Request to the interrupt address range is not an interrupt", {
    ...NOT_QUALIFIED,
    ...OURS,
  }),
  EXTENDED_MODE_REQUIRED: reason(0x2a, "IR.2Ah", "Extended interrupt mode is required and not enabled", {
    ...NOT_QUALIFIED,
    ...OURS,
  }),
  REMAPPING_REQUIRED: reason(0x2b, "IR.2Bh", "Interrupt remapping is required and not enabled", {
    ...NOT_QUALIFIED,
    ...OURS,
  }),
} as const;

/** Root table address register, and scalable-mode translation. */
export const ScalableFault = {
  ROOT_TABLE_ADDRESS: reason(0x30, "RTA.1", "SM: Invalid Root Table Address", { ...CA, ...NOT_QUALIFIED }),
  LEGACY_WITH_PASID: reason(0x31, "RTA.2", "SM: TTM 0 for request with PASID", { ...UR, ...NOT_QUALIFIED }),
  LEGACY_PAGE_REQUEST: reason(0x32, "RTA.3", "SM: TTM 0 for page group request", NOT_QUALIFIED),
  ABORT_DMA: reason(0x33, "RTA.4", "Request in abort-dma mode", { ...UR, ...NOT_QUALIFIED, ...OURS }),
  EXECUTE_REQUESTED: reason(0x34, "RTA.5", "Execute requested, which this version does not know", {
    ...UR,
    ...NOT_QUALIFIED,
    ...OURS,
  }),
  ROOT_ACCESS: reason(0x38, "SRT.1", "SM: Error attempting to access Root Entry", { ...CA, ...NOT_QUALIFIED }),
  ROOT_NOT_PRESENT: reason(0x39, "SRT.2", "SM: Present bit in Root Entry is clear", { ...UR, ...NOT_QUALIFIED }),
  ROOT_RESERVED: reason(0x3a, "SRT.3", "SM: Non-zero reserved field set in Root Entry", { ...CA, ...NOT_QUALIFIED }),
  CONTEXT_ACCESS: reason(0x40, "SCT.1", "SM: Error attempting to access Context Entry", { ...CA, ...NOT_QUALIFIED }),
  CONTEXT_NOT_PRESENT: reason(0x41, "SCT.2", "SM: Present bit in Context Entry is clear", UR),
  CONTEXT_RESERVED: reason(0x42, "SCT.3", "SM: Non-zero reserved field set in the Context Entry", CA),
  CONTEXT_INVALID: reason(0x43, "SCT.4", "SM: Invalid Context Entry", CA),
  DTE_CLEAR: reason(0x44, "SCT.5", "SM: DTE field in Context Entry is clear", UR),
  PASIDE_CLEAR: reason(0x45, "SCT.6", "SM: PASID Enable field in Context Entry is clear", UR),
  PASID_TOO_LARGE: reason(0x46, "SCT.7", "SM: PASID is larger than the max in Context Entry", UR),
  PRE_CLEAR: reason(0x47, "SCT.8", "SM: PRE field in Context-Entry is clear"),
  RID_PASID_USED: reason(0x48, "SCT.9", "SM: RID_PASID field error in Context-Entry", UR),
  EPTR_CLEAR: reason(0x49, "SCT.10", "EPTR field in Context Entry is clear", { ...UR, ...OURS }),
  DIRECTORY_ACCESS: reason(0x50, "SPD.1", "SM: Error attempting to access the PASID Directory Entry", {
    ...CA_BOTH,
    ...NOT_QUALIFIED,
  }),
  DIRECTORY_NOT_PRESENT: reason(0x51, "SPD.2", "SM: Present bit in Directory Entry is clear", EMPTY),
  DIRECTORY_RESERVED: reason(0x52, "SPD.3", "SM: Non-zero reserved field set in PASID Directory Entry", CA_BOTH),
  PASID_ACCESS: reason(0x58, "SPT.1", "SM: Error attempting to access PASID Table Entry", {
    ...CA_BOTH,
    ...NOT_QUALIFIED,
  }),
  PASID_NOT_PRESENT: reason(0x59, "SPT.2", "SM: Present bit in PASID Table Entry is clear", EMPTY),
  PASID_RESERVED: reason(0x5a, "SPT.3", "SM: Non-zero reserved field set in PASID Table Entry", CA_BOTH),
  PASID_INVALID: reason(0x5b, "SPT.4", "SM: Invalid Scalable-Mode PASID Table Entry", CA_BOTH),
  ERE_CLEAR: reason(0x5c, "SPT.5", "SM: ERE field is clear in PASID Table Entry", EMPTY),
  SRE_CLEAR: reason(0x5d, "SPT.6", "SM: SRE field is clear in PASID Table Entry", EMPTY),
  FIRST_STAGE_ACCESS: reason(0x70, "SFS.1", "SM: Error attempting to access first-level paging entry", EMPTY),
  FIRST_STAGE_NOT_PRESENT: reason(0x71, "SFS.2", "SM: Present bit in first-level paging entry is clear", EMPTY),
  FIRST_STAGE_RESERVED: reason(0x72, "SFS.3", "SM: Non-zero reserved field set in first-level paging entry", EMPTY),
  FIRST_STAGE_ROOT_ACCESS: reason(0x73, "SFS.4", "SM: Error attempting to access FL-PML4 entry", EMPTY),
  NESTED_ENTRY_BEYOND_MGAW: reason(
    0x74,
    "SFS.5",
    "SM: First-level entry address beyond MGAW in Nested translation",
    EMPTY,
  ),
  NESTED_ROOT_READ_DENIED: reason(
    0x75,
    "SFS.6",
    "SM: Read permission error in FL-PML4 entry in Nested translation",
    EMPTY,
  ),
  NESTED_ENTRY_READ_DENIED: reason(
    0x76,
    "SFS.7",
    "SM: Read permission error in first-level paging entry in Nested translation",
    EMPTY,
  ),
  NESTED_ENTRY_WRITE_DENIED: reason(
    0x77,
    "SFS.8",
    "SM: Write permission error in first-level paging entry in Nested translation",
    EMPTY,
  ),
  SECOND_STAGE_ACCESS: reason(0x78, "SSS.1", "SM: Error attempting to access second-level paging entry", CA),
  SECOND_STAGE_DENIED: reason(0x79, "SSS.2", "SM: Read/Write permission error in second-level paging entry", EMPTY),
  SECOND_STAGE_RESERVED: reason(0x7a, "SSS.3", "SM: Non-zero reserved field set in second-level paging entry", CA),
  SECOND_STAGE_ROOT_ACCESS: reason(0x7b, "SSS.4", "SM: Invalid second-level page table pointer", CA),
  SECOND_STAGE_UPDATE_NO_SNOOP: reason(
    0x7c,
    "SSS.5",
    "SM: A/D bit update needed in second-level entry when set up in no snoop",
    CA,
  ),
  SECOND_STAGE_UPDATE_FAILED: reason(
    0x7d,
    "SSS.6",
    "Accessed or dirty bit of a second-stage entry could not be updated",
    { ...CA, ...OURS },
  ),
  NOT_CANONICAL: reason(0x80, "SGN.1", "SM: Address in first-level translation is not canonical", EMPTY),
  USER_DENIED: reason(0x81, "SGN.2", "SM: U/S set 0 for first-level translation with user privilege", EMPTY),
  EXECUTE_DENIED: reason(0x82, "SGN.3", "SM: No execute permission for request with PASID and ER=1", EMPTY),
  BEYOND_HOST_WIDTH: reason(0x83, "SGN.4", "SM: Address beyond the DMA hardware max", EMPTY),
  BEYOND_SECOND_STAGE: reason(0x84, "SGN.5", "SM: Second-level entry address beyond the max", EMPTY),
  WRITE_DENIED: reason(0x85, "SGN.6", "SM: No write permission for Write/AtomicOp request", EMPTY),
  READ_DENIED: reason(0x86, "SGN.7", "SM: No read permission for Read/AtomicOp request", EMPTY),
  INTERRUPT_ADDRESS: reason(0x87, "SGN.8", "SM: Invalid address-interrupt address", CA),
  PASID_BEYOND_HARDWARE: reason(0x89, "SGN.10", "PASID is larger than ECAP.PSS allows", { ...UR, ...OURS }),
  FIRST_STAGE_UPDATE_NO_SNOOP: reason(
    0x90,
    "SFS.9",
    "SM: A/D bit update needed in first-level entry when set up in no snoop",
    EMPTY,
  ),
  /** Recorded although the translation request succeeds without permissions. */
  FIRST_STAGE_UPDATE_FAILED: reason(
    0x91,
    "SFS.10",
    "Accessed or dirty bit of a first-stage entry could not be updated",
    { ...EMPTY, ...OURS },
  ),
} as const;

/** Every reason with its code, the specification's name, and Linux's text. */
export const FAULT_REASONS: readonly FaultReason[] = [
  ...Object.values(LegacyFault),
  ...Object.values(InterruptFault),
  ...Object.values(ScalableFault),
].sort((a, b) => a.code - b.code);

const byCode = new Map(FAULT_REASONS.map((fault) => [fault.code, fault]));

/** The reason with that code; undefined for codes that the specification leaves out. */
export function faultReason(code: number): FaultReason | undefined {
  return byCode.get(code);
}
