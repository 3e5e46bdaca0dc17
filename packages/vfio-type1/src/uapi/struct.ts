/** C structures of include/uapi/linux/vfio.h as field tables: offsets in bytes, 64-bit members as bigint. */
import {
  type AnyLayout,
  type Decoded,
  type Encodable,
  type FieldSpec,
  type FieldSpecs,
  type Layout,
  reserved,
  uint,
} from "@iommukit/core";

export function u8(at: number, meaning: string): FieldSpec<number> {
  return uint(at * 8 + 7, at * 8, meaning);
}

export function u16(at: number, meaning: string): FieldSpec<number> {
  return uint(at * 8 + 15, at * 8, meaning);
}

export function u32(at: number, meaning: string): FieldSpec<number> {
  return uint(at * 8 + 31, at * 8, meaning);
}

export function u64(at: number, meaning: string): FieldSpec<bigint> {
  return { kind: "uint", msb: at * 8 + 63, lsb: at * 8, meaning };
}

/** Bytes that the structure leaves unused. */
export function pad(at: number, bytes: number): FieldSpec<number> {
  return reserved((at + bytes) * 8 - 1, at * 8);
}

/** The structure at hand, as words and as bytes: no structure is larger. */
const SCRATCH = new Int32Array(64);
const SCRATCH_BYTES = new Uint8Array(SCRATCH.buffer);

/** Reads a structure; a copy that is shorter than it is continued with zeros. */
export function decodeStruct<F extends FieldSpecs>(table: Layout<F>, bytes: Uint8Array): Decoded<F> {
  const length = Math.min(bytes.length, table.bytes);
  SCRATCH.fill(0, 0, table.words);
  for (let i = 0; i < length; i++) SCRATCH_BYTES[i] = bytes[i];
  return table.decode(SCRATCH);
}

/** The bytes of a structure; members that are not named are 0. @throws RangeError a value that its member cannot hold */
export function encodeStruct<F extends FieldSpecs>(table: Layout<F>, values: Encodable<F>): Uint8Array {
  table.encode(values, SCRATCH);
  return SCRATCH_BYTES.slice(0, table.bytes);
}

/** offsetofend(struct, member). */
export function offsetofend(table: AnyLayout, member: string): number {
  return (table.field(member).msb + 1) / 8;
}

const MASK = 0xffff_ffff_ffff_ffffn;

/** Arithmetic of an unsigned 64-bit variable: 2^64 is 0. */
export function wrap64(value: bigint): bigint {
  return value & MASK;
}

export const U64_MAX = MASK;
