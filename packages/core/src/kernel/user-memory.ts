/**
 * copy_from_user and copy_to_user. An ioctl's argument is either an address in the caller's address space, or a buffer
 * that stands for one: exactly its bytes are accessible. Either way a short buffer gives EFAULT.
 */
import type { Mm } from "../mm/mm.js";
import { IommuError } from "./errno.js";

/** An ioctl's argument. Copies refuse with EFAULT; `value` is the bare 64-bit number. */
export interface UserPointer {
  /** The raw value, for ioctls whose argument is a number. */
  readonly value: bigint;
  /** @throws IommuError EFAULT when not all bytes are readable */
  copyFrom(length: number, offset?: number): Promise<Uint8Array>;
  /** @throws IommuError EFAULT; part of the bytes may then have been written, as in Linux */
  copyTo(bytes: Uint8Array, offset?: number): Promise<void>;
  /** Another pointer found in a structure: an address in the same address space. */
  at(address: bigint): UserPointer;
}

/** An address of the process; a task without memory refuses every copy. */
export function userAddress(mm: Mm | undefined, value: bigint): UserPointer {
  const fault = (what: string, length: number, offset: number) =>
    new IommuError(
      "EFAULT",
      `cannot ${what} ${length} bytes at user address 0x${(value + BigInt(offset)).toString(16)}`,
    );
  return {
    value,
    async copyFrom(length, offset = 0) {
      const bytes = new Uint8Array(length);
      if (!mm || (await mm.read(value + BigInt(offset), bytes)) < length) throw fault("read", length, offset);
      return bytes;
    },
    async copyTo(bytes, offset = 0) {
      if (!mm || (await mm.write(value + BigInt(offset), bytes)) < bytes.length)
        throw fault("write", bytes.length, offset);
    },
    at: (address) => userAddress(mm, address),
  };
}

/** A buffer that stands for memory of the process; copies back go into it. */
export function userBuffer(mm: Mm | undefined, buffer: Uint8Array): UserPointer {
  const check = (what: string, length: number, offset: number) => {
    if (offset + length > buffer.length)
      throw new IommuError(
        "EFAULT",
        `cannot ${what} ${length} bytes at offset ${offset} of a ${buffer.length}-byte user buffer`,
      );
  };
  return {
    value: 0n,
    async copyFrom(length, offset = 0) {
      check("read", length, offset);
      return buffer.slice(offset, offset + length);
    },
    async copyTo(bytes, offset = 0) {
      check("write", bytes.length, offset);
      buffer.set(bytes, offset);
    },
    at: (address) => userAddress(mm, address),
  };
}
