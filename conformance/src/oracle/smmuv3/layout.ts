/** Where things are on QEMU's `virt` board and in its RAM while the oracle runs; the model's memory has the same addresses. */

export const RAM = { base: 0x4000_0000, size: 0x2000_0000 } as const;
export const SMMU = 0x0905_0000;
export const ECAM = 0x40_1000_0000;

export const STREAM_TABLE = 0x4010_0000;
/** log2 of the StreamIDs in the table. */
export const STREAMS_LOG2 = 8;
export const LEVEL2_TABLE = 0x4014_0000;
export const CONTEXTS = 0x4020_0000;
export const COMMAND_QUEUE = { base: 0x4030_0000, log2: 8 } as const;
export const EVENT_QUEUE = { base: 0x4031_0000, log2: 7 } as const;
/** Pattern that the device's buffer is filled with, and where it is copied back to. */
export const PATTERN = 0x4040_0000;
export const BACK = 0x4050_0000;
/** Translation tables, 64 KiB apart so that every granule can hold and map them. */
export const STAGE1_TABLES = 0x4100_0000;
export const STAGE2_TABLES = 0x4200_0000;
export const TABLE_SPACING = 0x1_0000;
/** Pages that transfers go to. */
export const DATA = { base: 0x5000_0000, size: 0x10_0000 } as const;
/** Physical addresses where nothing answers. */
export const HOLE = 0x3_0000_0000;

/** StreamID of the edu device: slot 2, function 0, bus 0. */
export const EDU_SLOT = 2;
export const EDU_SID = EDU_SLOT << 3;
export const EDU_BAR = 0x1000_0000;
