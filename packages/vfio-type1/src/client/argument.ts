/** Arguments as a program fills them in. What a member of the structure has no room for is EINVAL here already. */
import { type Encodable, type FieldSpecs, IommuError, type Layout } from "@iommukit/core";
import { encodeStruct } from "../uapi/struct.js";

/** @throws IommuError EINVAL a value that its member cannot hold */
export function argument<F extends FieldSpecs>(table: Layout<F>, values: Encodable<F>): Uint8Array {
  try {
    return encodeStruct(table, values);
  } catch (error) {
    if (error instanceof RangeError) throw new IommuError("EINVAL", error.message);
    throw error;
  }
}

/** A number of bytes for a 64-bit member. @throws IommuError EINVAL */
export function bytes64(count: bigint | number): bigint {
  if (typeof count === "number" && !Number.isSafeInteger(count))
    throw new IommuError("EINVAL", `${count} is no whole number of bytes`);
  return BigInt(count);
}
