/** What a random program is made of, and the generator: the same seed gives the same program. */
import type { Prot } from "@iommukit/core";

/** Pages that programs use: two 2 MiB blocks and a bit. */
export const WINDOW = 1100;
export const FILE_PAGES = 24;
/** The stack's pages, behind the window; it begins with the topmost one and grows downwards. */
export const STACK_TOP = 2048;
export const STACK_PAGES = 8;
export const DEVICES = 4;

export type MapKind = "anonymous" | "shared" | "file" | "sharedFile";
/** Operations that change where the bytes are, and never the bytes. */
export type Reshape = "collapse" | "split" | "merge" | "age" | "mprotect";

interface At {
  readonly page: number;
  readonly count: number;
}

export type Operation =
  | (At & { readonly op: "mmap"; readonly prot: Prot; readonly kind: MapKind; readonly index: number })
  | (At & { readonly op: "munmap" | "age" | "populate" })
  | (At & { readonly op: "dontneed" | "hugepage" })
  | (At & { readonly op: "mprotect"; readonly prot: Prot })
  | (At & { readonly op: "mremap"; readonly size: number; readonly to: number })
  | { readonly op: "collapse" | "split"; readonly page: number }
  | { readonly op: "merge"; readonly page: number; readonly other: number }
  | { readonly op: "truncate"; readonly size: number }
  | { readonly op: "spawn" | "fork" | "exit" }
  | (At & { readonly op: "cpuRead" })
  | (At & { readonly op: "cpuWrite"; readonly value: number })
  | (At & { readonly op: "deviceRead"; readonly device: number })
  | (At & { readonly op: "deviceWrite"; readonly device: number; readonly value: number })
  | (At & { readonly op: "race"; readonly reshape: Reshape; readonly value: number })
  | { readonly op: "exitUnderLoad"; readonly value: number }
  | { readonly op: "bind" | "unbind" | "init" | "shutdown" | "plug" | "unplug"; readonly device: number };

/** One operation, by the process with that number (modulo those that live). */
export type Step = Operation & { readonly who: number };

/** mulberry32. */
export function random(seed: number): (below: number) => number {
  let state = seed | 0;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** How often, in a thousand. */
const WEIGHTS = {
  cpuRead: 110,
  cpuWrite: 150,
  deviceRead: 140,
  deviceWrite: 180,
  race: 40,
  mmap: 80,
  munmap: 25,
  dontneed: 25,
  mprotect: 45,
  mremap: 20,
  age: 15,
  hugepage: 15,
  populate: 10,
  collapse: 15,
  split: 10,
  merge: 15,
  truncate: 10,
  fork: 12,
  spawn: 8,
  exit: 12,
  exitUnderLoad: 6,
  bind: 40,
  unbind: 12,
  init: 6,
  shutdown: 3,
  plug: 6,
  unplug: 4,
} as const satisfies Record<Operation["op"], number>;

const NAMES = (Object.keys(WEIGHTS) as (keyof typeof WEIGHTS)[]).flatMap((name) =>
  Array.from({ length: WEIGHTS[name] }, () => name),
);

export function program(seed: number, length: number): Step[] {
  const next = random(seed);
  const pick = <T>(...from: readonly T[]): T => from[next(from.length)];
  /** Borders of blocks are where the interesting things happen. */
  const page = () => pick(next(16), 505 + next(16), 1018 + next(13));
  const at = () => {
    const first = page();
    return { page: first, count: Math.min(next(8) === 0 ? pick(512, 520) : 1 + next(8), WINDOW - first) };
  };
  const access = () =>
    next(12) === 0 ? { page: STACK_TOP - 1 - next(STACK_PAGES), count: 1 } : { page: page(), count: 1 + next(3) };
  const prot = () => pick<Prot>("rw", "rw", "rw", "r", "rx", "none", "rwx");
  const value = () => 1 + next(255);
  const operation = (op: Operation["op"]): Operation => {
    switch (op) {
      case "mmap": {
        const kind = pick<MapKind>("anonymous", "anonymous", "shared", "file", "sharedFile");
        return { op, ...at(), prot: prot(), kind, index: next(FILE_PAGES) };
      }
      case "munmap":
      case "dontneed":
      case "age":
      case "hugepage":
      case "populate":
        return { op, ...at() };
      case "mprotect":
        return { op, ...at(), prot: prot() };
      case "mremap":
        return { op, ...at(), size: 1 + next(12), to: page() };
      case "collapse":
      case "split":
        return { op, page: page() };
      case "merge":
        return { op, page: page(), other: page() };
      case "truncate":
        return { op, size: next(FILE_PAGES + 1) };
      case "cpuRead":
        return { op, ...access() };
      case "cpuWrite":
        return { op, ...access(), value: value() };
      case "deviceRead":
        return { op, ...access(), device: next(DEVICES) };
      case "deviceWrite":
        return { op, ...access(), device: next(DEVICES), value: value() };
      case "race":
        return {
          op,
          page: page(),
          count: 1,
          reshape: pick<Reshape>("collapse", "split", "merge", "age", "mprotect"),
          value: value(),
        };
      case "exitUnderLoad":
        return { op, value: value() };
      case "bind":
      case "unbind":
      case "init":
      case "shutdown":
      case "plug":
      case "unplug":
        return { op, device: next(DEVICES) };
      default:
        return { op };
    }
  };
  return Array.from({ length }, () => ({ who: next(16), ...operation(pick(...NAMES)) }));
}
