/** Values in the text of an event. All of them throw SyntaxError where the text is not of the known form. */
import type { FtraceEvent } from "./ftrace.js";
import type { Range } from "./steps.js";
import type { Inclusive } from "./thread.js";

/** 64 GiB: what claims to be longer is no mapping. */
const LONGEST = 2n ** 36n;

export function field({ text }: FtraceEvent, pattern: RegExp): bigint {
  const value = pattern.exec(text)?.[1];
  if (value === undefined) throw new SyntaxError(`no ${pattern.source}: ${text}`);
  return BigInt(value);
}

/** `iova=0x… - 0x… … size=…`: whole pages, that do not contradict themselves. */
export function rangeIn(event: FtraceEvent): Range {
  const iova = field(event, /iova=(0x[0-9a-f]+)/);
  const end = field(event, / - (0x[0-9a-f]+)/);
  const size = pages(event, field(event, / size=(\d+)/));
  if ((iova & 0xfffn) !== 0n || iova + size !== end) throw new SyntaxError(`no range: ${event.text}`);
  return { iova, size };
}

export function pages({ text }: FtraceEvent, size: bigint): bigint {
  if (size > LONGEST || (size & 0xfffn) !== 0n) throw new SyntaxError(`no pages: ${text}`);
  return size;
}

/** `[0x…-0x…]` */
export function flushedRange({ text }: FtraceEvent): Inclusive {
  const match = / \[(0x[0-9a-f]+)-(0x[0-9a-f]+)\]/.exec(text);
  if (!match) throw new SyntaxError(`no range: ${text}`);
  return { start: BigInt(match[1]), end: BigInt(match[2]) };
}

/** Empty where there is none. */
export function deviceIn({ text }: FtraceEvent): string {
  return /device=(\S+)/.exec(text)?.[1] ?? "";
}

/** Pointer of the domain, of a kprobe. */
export function domainIn({ text }: FtraceEvent): string | undefined {
  return /domain=(\S+)/.exec(text)?.[1];
}
