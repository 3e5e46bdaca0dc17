/** The records that the library in a program and the bridge exchange: shim/protocol.h is the other side. */

export const KEY_BYTES = 32;
export const REQUEST_BYTES = 64;
const REPLY_BYTES = 24;
const HANDOVER_BYTES = 8;

export const Op = {
  HELLO: 1,
  OPEN: 2,
  ADOPT: 3,
  IOCTL: 4,
  READ: 5,
  WRITE: 6,
  SEEK: 7,
  MAP: 8,
  FORGET: 9,
  PROTECT: 10,
  ACCESS: 11,
  LOCKED: 12,
  LOCK_CHECK: 13,
  LOCK_ADD: 14,
  SYNC: 15,
  NAME: 16,
  SLEEP: 17,
  MOVE: 18,
} as const;

/** Position of a read or write: the file's own. */
export const CURRENT = 0xffff_ffff_ffff_ffffn;
/** The path is none of the bridge's: the library opens what the directory tree has. */
export const NOT_A_NODE = 4095;

export const ReplyFlag = { NEW_FILE: 1, WATCH: 2 } as const;

export interface Request {
  readonly op: number;
  readonly pid: number;
  /** Inode of the file's socket, or a mapping. */
  readonly file: number;
  readonly a: bigint;
  readonly b: bigint;
  readonly c: bigint;
  readonly d: bigint;
  /** RLIMIT_MEMLOCK in bytes; Infinity for unlimited. */
  readonly memlock: number;
  readonly uid: number;
  readonly payload: Uint8Array;
}

export interface Reply {
  readonly result?: number;
  /** errno. */
  readonly error?: number;
  readonly flags?: number;
  /** Eventfds that the program is asked to give to the broker: id and descriptor. */
  readonly handovers?: readonly (readonly [number, number])[];
  readonly payload?: Uint8Array;
}

/** Bytes that follow the fixed part of the request at `at`. */
export function payloadLength(buffer: Buffer, at: number): number {
  return buffer.readUInt32LE(at + 60);
}

export function decodeRequest(buffer: Buffer, at: number): Request {
  const memlock = buffer.readBigUInt64LE(at + 48);
  return {
    op: buffer.readUInt32LE(at),
    pid: buffer.readUInt32LE(at + 4),
    file: Number(buffer.readBigUInt64LE(at + 8)),
    a: buffer.readBigUInt64LE(at + 16),
    b: buffer.readBigUInt64LE(at + 24),
    c: buffer.readBigUInt64LE(at + 32),
    d: buffer.readBigUInt64LE(at + 40),
    memlock: memlock === CURRENT ? Number.POSITIVE_INFINITY : Number(memlock),
    uid: buffer.readUInt32LE(at + 56),
    payload: buffer.subarray(at + REQUEST_BYTES, at + REQUEST_BYTES + payloadLength(buffer, at)),
  };
}

export function encodeReply({ result = 0, error = 0, flags = 0, handovers = [], payload }: Reply): Buffer {
  const handed = handovers.length * HANDOVER_BYTES;
  const buffer = Buffer.allocUnsafe(REPLY_BYTES + handed + (payload?.length ?? 0));
  buffer.writeBigInt64LE(BigInt(result), 0);
  buffer.writeUInt32LE(error, 8);
  buffer.writeUInt32LE(flags, 12);
  buffer.writeUInt32LE(handovers.length, 16);
  buffer.writeUInt32LE(buffer.length - REPLY_BYTES, 20);
  for (const [i, [id, fd]] of handovers.entries()) {
    buffer.writeUInt32LE(id, REPLY_BYTES + i * HANDOVER_BYTES);
    buffer.writeInt32LE(fd, REPLY_BYTES + i * HANDOVER_BYTES + 4);
  }
  if (payload) buffer.set(payload, REPLY_BYTES + handed);
  return buffer;
}
