/**
 * The accelerator's registers: BAR0 for who owns the device, BAR2 with one 4 KiB page per work queue (its portal) for who
 * may submit to it.
 */
import { bit, type FieldOptions, oneOf, register, relocated, reserved, uint } from "@iommukit/core";

const RO: FieldOptions = { access: "ro" };
const SPEC = "accelerator";

/** BAR0: registers, then the MSI-X table and its pending bits. */
export const BAR0_SIZE = 0x4000;
export const MSIX_TABLE = 0x2000;
export const MSIX_PBA = 0x3000;
export const REGISTERS_SIZE = 0x1000;
/** BAR2: portals. */
export const PORTAL_SIZE = 0x1000;

export const VERSION = register(
  { name: "VERSION", offset: 0x000, bits: 32, spec: SPEC },
  {
    Minor: uint(7, 0, "minor", RO),
    Major: uint(15, 8, "major", { access: "ro", reset: 1 }),
    Reserved: reserved(31, 16),
  },
);

export const CAPABILITY = register(
  { name: "CAPABILITY", offset: 0x008, bits: 64, spec: SPEC },
  {
    WorkQueues: uint(7, 0, "number of work queues", RO),
    Engines: uint(15, 8, "descriptors processed at the same time", RO),
    TotalSize: uint(31, 16, "descriptors that all queues together can hold", RO),
    MaxTransferSizeLog2: uint(39, 32, "2^n bytes", RO),
    MaxBatchSizeLog2: uint(47, 40, "2^n descriptors", RO),
    BlockOnFaultSupport: bit(48, "descriptors may wait for missing pages", RO),
    Reserved: reserved(63, 49),
  },
);

export const Command = {
  ENABLE_DEVICE: 1,
  DISABLE_DEVICE: 2,
  DRAIN_ALL: 3,
  ABORT_ALL: 4,
  RESET_DEVICE: 5,
  ENABLE_WQ: 6,
  DISABLE_WQ: 7,
  DRAIN_WQ: 8,
  ABORT_WQ: 9,
  RESET_WQ: 10,
  DRAIN_PASID: 11,
  ABORT_PASID: 12,
} as const;

export const CMD = register(
  { name: "CMD", offset: 0x020, bits: 32, spec: SPEC },
  {
    Operand: uint(19, 0, "work queue or PASID"),
    Command: oneOf(24, 20, Command, "what to do; ignored while CMDSTS.Active"),
    Reserved: reserved(30, 25),
    RequestInterrupt: bit(31, "vector 0 when done"),
  },
);

export const CommandError = {
  NONE: 0,
  UNKNOWN: 1,
  NOT_DISABLED: 0x10,
  NOT_ENABLED: 0x20,
  NO_SUCH_QUEUE: 0x21,
  BAD_CONFIGURATION: 0x22,
} as const;

export const CMDSTS = register(
  { name: "CMDSTS", offset: 0x024, bits: 32, spec: SPEC },
  {
    ErrorCode: oneOf(7, 0, CommandError, "of the last command", RO),
    Reserved: reserved(30, 8),
    Active: bit(31, "a command is being carried out", RO),
  },
);

export const GENSTS = register(
  { name: "GENSTS", offset: 0x028, bits: 32, spec: SPEC },
  {
    Enabled: bit(0, "the device takes descriptors", RO),
    Reserved: reserved(31, 1),
  },
);

export const INTCAUSE = register(
  { name: "INTCAUSE", offset: 0x02c, bits: 32, spec: SPEC },
  {
    SoftwareError: bit(0, "SWERROR is valid", { access: "w1c" }),
    CommandCompletion: bit(1, "a command has been carried out", { access: "w1c" }),
    Reserved: reserved(31, 2),
  },
);

/** What could not be told in a completion record. */
export const SWERROR = register(
  { name: "SWERROR", offset: 0x040, bits: 64, spec: SPEC },
  {
    Valid: bit(0, "an error is recorded", { access: "w1c" }),
    Overflow: bit(1, "another one came while Valid was set", { access: "w1c" }),
    Reserved: reserved(7, 2),
    Error: uint(15, 8, "a CompletionStatus, or 0x50: queue disabled, 0x51: queue full", RO),
    WorkQueue: uint(23, 16, "the descriptor's queue", RO),
    Opcode: uint(31, 24, "the descriptor's operation", RO),
    PASID: uint(51, 32, "the descriptor's address space", RO),
    PASIDValid: bit(52, "it had one", RO),
    Reserved2: reserved(63, 53),
  },
);

export const SWERROR_ADDRESS = register(
  { name: "SWERROR_ADDRESS", offset: 0x048, bits: 64, spec: SPEC },
  {
    Address: uint(63, 0, "address that the error is about", RO),
  },
);

export const SubmissionError = { QUEUE_DISABLED: 0x50, QUEUE_FULL: 0x51 } as const;

const WQCFG0 = register(
  { name: "WQCFG", offset: 0x400, bits: 64, spec: SPEC },
  {
    Size: uint(15, 0, "descriptors that the queue holds"),
    Threshold: uint(31, 16, "shared: submissions are refused from this occupancy on; 0 is Size"),
    Mode: oneOf(32, 32, { shared: 0, dedicated: 1 }, "who submits: many with retry, or one who counts"),
    BlockOnFaultEnable: bit(33, "descriptors may set Block On Fault"),
    PASIDEnable: bit(34, "requests carry a PASID"),
    PrivilegedEnable: bit(35, "dedicated: requests are privileged"),
    PASID: uint(55, 36, "dedicated: the PASID of all descriptors"),
    Priority: uint(59, 56, "higher first"),
    UntaggedCompletion: bit(
      60,
      "completion records are written without PASID: the queue works on a foreign address space",
    ),
    Reserved: reserved(63, 61),
  },
);

const WQSTS0 = register(
  { name: "WQSTS", offset: 0x408, bits: 32, spec: SPEC },
  {
    Enabled: bit(0, "takes descriptors", RO),
    Reserved: reserved(15, 1),
    Occupancy: uint(31, 16, "descriptors that wait", RO),
  },
);

export const MAX_QUEUES = 16;

/** Configuration of each queue: writable while the queue is disabled. */
export const WQCFG = Array.from({ length: MAX_QUEUES }, (_, n) => relocated(WQCFG0, 0x400 + 16 * n, `WQCFG${n}`));
export const WQSTS = Array.from({ length: MAX_QUEUES }, (_, n) => relocated(WQSTS0, 0x408 + 16 * n, `WQSTS${n}`));

/**
 * Offsets in a portal page. Writing the 64 bytes at 0 submits a descriptor: at once (MOVDIR64B, ENQCMD) or piece by piece
 * in order, as programs do that can only make smaller accesses; the last byte counts.
 */
export const Portal = {
  DESCRIPTOR: 0x000,
  /** Whether the last submission was accepted: what ENQCMD leaves in the zero flag. 0: yes, 1: try again. */
  STATUS: 0x040,
  /** Address space for DOORBELL: PASID in bits 19:0, bit 31 set when there is one. Dedicated queues have their own. */
  PASID: 0x048,
  /** 8 bytes; the last one rings: the device reads the descriptor from that address of the address space. */
  DOORBELL: 0x050,
} as const;

/** The registers of a device by its number of work queues; one list for all of them. */
export const REGISTER_LISTS = Array.from({ length: MAX_QUEUES + 1 }, (_, queues) => [
  ...[VERSION, CAPABILITY, CMD, CMDSTS, GENSTS, INTCAUSE, SWERROR, SWERROR_ADDRESS],
  ...WQCFG.slice(0, queues),
  ...WQSTS.slice(0, queues),
]);
