/** vfio_info_cap: the chain of capabilities behind an info structure. */
import { encodeStruct } from "./struct.js";
import { InfoCapHeader } from "./type1-structs.js";

export interface InfoCap {
  readonly id: number;
  readonly version: number;
  /** What follows the header. */
  readonly body: Uint8Array;
}

/**
 * The chain as bytes. `next` counts from the start of the info structure, whose size is `base`.
 * @param align the next capability starts at a multiple of it: 8 since 6.6, before that where the last one ended
 */
export function capChain(caps: readonly InfoCap[], base: number, align: number): Uint8Array {
  const starts: number[] = [];
  let end = 0;
  for (const { body } of caps) {
    starts.push(end);
    end += Math.ceil((InfoCapHeader.bytes + body.length) / align) * align;
  }
  const chain = new Uint8Array(end);
  for (const [index, { id, version, body }] of caps.entries()) {
    const next = index + 1 < caps.length ? base + starts[index + 1] : 0;
    chain.set(encodeStruct(InfoCapHeader, { id, version, next }), starts[index]);
    chain.set(body, starts[index] + InfoCapHeader.bytes);
  }
  return chain;
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
