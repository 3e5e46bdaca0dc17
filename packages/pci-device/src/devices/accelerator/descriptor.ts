/**
 * What a user puts into memory and what the device answers: 64-byte descriptors and 32-byte completion records, in the
 * layout of Intel DSA (include/uapi/linux/idxd.h), so that code written for it reads the same. Opcodes from 0x40 on are ours.
 */
import { bit, layout, oneOf, reserved, uint } from "@iommukit/core";

/** What a descriptor can ask for. */
export const Opcode = {
  NOOP: 0x00,
  /** A list of descriptors in memory. */
  BATCH: 0x01,
  /** Completes when everything submitted before to the queue has. */
  DRAIN: 0x02,
  MEMMOVE: 0x03,
  MEMFILL: 0x04,
  COMPARE: 0x05,
  /** Compares memory with a pattern. */
  COMPVAL: 0x06,
  /** Copies to two places. */
  DUALCAST: 0x09,
  /** CRC32C of memory; and of memory while copying it. */
  CRCGEN: 0x10,
  COPY_CRC: 0x11,
  /** Follows pointers from node to node: reads that depend on each other. */
  POINTER_CHASE: 0x40,
  /** CRC32 (IEEE 802.3) of memory. */
  CRC32: 0x41,
  /** Sorts a linked list by its nodes' keys, smallest first: reads every node, then rewrites the pointers. */
  LIST_SORT: 0x42,
} as const;

export const DESCRIPTOR = layout(
  { name: "Work descriptor", bits: 512, spec: "accelerator; as dsa_hw_desc" },
  {
    PASID: uint(19, 0, "address space; taken from the queue when that is dedicated"),
    Reserved0: reserved(30, 20),
    Privileged: bit(31, "privileged accesses"),
    Fence: bit(32, "in a batch: start when all before have completed"),
    BlockOnFault: bit(33, "wait for missing pages instead of reporting them"),
    CompletionRecordAddressValid: bit(34, "Completion Record Address is one"),
    RequestCompletionRecord: bit(35, "write a completion record also on success"),
    RequestCompletionInterrupt: bit(36, "interrupt when done"),
    CompletionRecordSteering: bit(37, "no effect"),
    FlagsReserved: reserved(38),
    CompletionRecordCacheControl: bit(39, "no effect"),
    CacheControl: bit(40, "no effect"),
    TrafficClasses: uint(44, 41, "no effect"),
    StrictOrdering: bit(45, "no effect: writes are always in order"),
    ReadBack: bit(46, "no effect"),
    DestinationSteering: bit(47, "no effect"),
    FlagsReserved2: reserved(55, 48),
    Opcode: oneOf(63, 56, Opcode, "operation"),
    CompletionRecordAddress: uint(127, 64, "multiple of 32"),
    Source: uint(
      191,
      128,
      "source address; pattern of MEMFILL and COMPVAL's second operand is Destination; list of a BATCH",
    ),
    Destination: uint(255, 192, "destination; second source of COMPARE; pattern of COMPVAL"),
    TransferSize: uint(287, 256, "bytes; descriptors of a BATCH; nodes at most for POINTER_CHASE and LIST_SORT"),
    InterruptHandle: uint(303, 288, "MSI-X vector"),
    Reserved38: reserved(319, 304),
    OperationSpecific: uint(
      383,
      320,
      "second destination of DUALCAST; seed of the CRCs; offset of the pointer in a node",
    ),
    OperationSpecific1: uint(447, 384, "offset of the 64-bit unsigned key in a node of LIST_SORT"),
    OperationSpecific2: uint(511, 448, "not used"),
  },
);

/** Status of a completion record; bit 7 tells that the fault was on a write. */
export const CompletionStatus = {
  NONE: 0x00,
  SUCCESS: 0x01,
  /** COMPARE and COMPVAL found a difference. */
  SUCCESS_PREDICATE: 0x02,
  /** A page was missing, and the descriptor did not ask to wait. */
  PAGE_FAULT_NO_BLOCK: 0x03,
  /** Software answered the page request with Invalid Request. */
  PAGE_FAULT_INVALID_RESPONSE: 0x04,
  /** Some descriptors of the batch failed. */
  BATCH_FAIL: 0x05,
  /** The list itself could not be read. */
  BATCH_PAGE_FAULT: 0x06,
  BAD_OPCODE: 0x10,
  INVALID_FLAGS: 0x11,
  NONZERO_RESERVED: 0x12,
  TRANSFER_SIZE: 0x13,
  DESCRIPTOR_COUNT: 0x14,
  LIST_ALIGNMENT: 0x18,
  INTERRUPT_HANDLE: 0x19,
  COMPLETION_ADDRESS_TRANSLATION: 0x1a,
  COMPLETION_ADDRESS_ALIGNMENT: 0x1b,
  PRIVILEGE: 0x1d,
  /** The IOMMU or the memory refused. */
  TRANSLATION_FAIL: 0x22,
} as const;

export const COMPLETION_RECORD = layout(
  { name: "Completion record", bits: 256, spec: "accelerator; as dsa_completion_record" },
  {
    Status: oneOf(6, 0, CompletionStatus, "how it ended"),
    FaultOnWrite: bit(7, "the access that faulted was a write"),
    Result: uint(15, 8, "1: COMPARE found a difference; MEMMOVE went backwards"),
    FaultInfo: uint(23, 16, "bit 0: Fault Address is one"),
    Reserved3: reserved(31, 24),
    BytesCompleted: uint(
      63,
      32,
      "bytes done before the fault or the difference; descriptors of a BATCH; nodes visited",
    ),
    FaultAddress: uint(127, 64, "address of the access that faulted"),
    OperationResult: uint(191, 128, "CRC; last node of POINTER_CHASE, first one of LIST_SORT"),
    Reserved24: reserved(255, 192),
  },
);
