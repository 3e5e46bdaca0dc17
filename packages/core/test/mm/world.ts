/** A machine with nothing but RAM and address spaces, which reports what the trace says and what is left. */
import {
  AddressDecoder,
  type AddressSpace,
  type AddressSpaceOptions,
  AddressSpaces,
  FirstFitPages,
  type Mm,
  type MmuNotifier,
  type PageAllocatorOptions,
  SlabMemory,
  type TraceRecord,
  Tracer,
  VirtualTimeScheduler,
} from "../../src/index.js";

export interface WorldOptions extends AddressSpaceOptions, PageAllocatorOptions {
  readonly ram?: number;
}

export class World {
  readonly scheduler = new VirtualTimeScheduler();
  readonly trace = new Tracer(() => this.scheduler.now);
  readonly memory: SlabMemory;
  readonly pages: FirstFitPages;
  readonly bus: AddressDecoder;
  readonly spaces: AddressSpaces;

  constructor(options: WorldOptions = {}) {
    this.memory = new SlabMemory([{ base: 0x1_0000_0000, size: options.ram ?? 0x1000_0000 }]);
    this.pages = new FirstFitPages(this.memory, this.memory.regions, { poison: 0x6b, ...options }, this.trace);
    this.bus = new AddressDecoder(this.memory);
    this.spaces = new AddressSpaces(this.memory, this.bus, this.pages, this.scheduler, this.trace, options);
  }

  create(owner = "pid 7"): AddressSpace {
    return this.spaces.create(owner);
  }

  run<T>(body: () => Promise<T>): Promise<T> {
    return this.scheduler.run(body);
  }

  /** Every event whose name is one of those given. */
  record(...names: string[]): TraceRecord[] {
    const records: TraceRecord[] = [];
    this.trace.subscribe((event) => {
      if (names.includes(event.name)) records.push(event);
    });
    return records;
  }
}

/** Runs `body` on one address space, ends it, and checks that no page is left. */
export async function withMm<T>(
  body: (mm: AddressSpace, world: World) => Promise<T>,
  options: WorldOptions = {},
): Promise<T> {
  const world = new World(options);
  const result = await world.run(async () => {
    const mm = world.create();
    const value = await body(mm, world);
    if (mm.mmUsers > 0) await mm.mmput();
    return value;
  });
  const left = [...world.pages.usage()];
  if (left.length > 0)
    throw new Error(`left behind: ${left.map(([owner, pages]) => `${pages} pages of ${owner}`).join(", ")}`);
  return result;
}

/** A notifier that writes down what it hears: "invalidateRange 0x1000-0x3000". */
export class Listener implements MmuNotifier {
  readonly heard: string[] = [];
  /** Runs inside of each callback. */
  meanwhile: (callback: string, start: bigint, end: bigint) => Promise<void> = async () => {};
  young = false;

  async #hear(callback: string, start: bigint, end: bigint): Promise<void> {
    this.heard.push(`${callback} 0x${start.toString(16)}-0x${end.toString(16)}`);
    await this.meanwhile(callback, start, end);
  }

  async release(_mm: Mm): Promise<void> {
    this.heard.push("release");
    await this.meanwhile("release", 0n, 0n);
  }

  invalidateRange(_mm: Mm, start: bigint, end: bigint): Promise<void> {
    return this.#hear("invalidateRange", start, end);
  }

  async clearFlushYoung(_mm: Mm, start: bigint, end: bigint): Promise<boolean> {
    await this.#hear("clearFlushYoung", start, end);
    return this.young;
  }

  changePte(_mm: Mm, address: bigint): Promise<void> {
    return this.#hear("changePte", address, address + 4096n);
  }
}

export async function readBytes(mm: Mm, address: bigint, length: number): Promise<number[]> {
  const bytes = new Uint8Array(length);
  const done = await mm.read(address, bytes);
  return [...bytes.subarray(0, done)];
}

/** What both tables say of an address; throws when they disagree. */
export function lookup(
  mm: Mm,
  address: bigint,
): { readonly pa: number; readonly flags: number; readonly shift: number } | undefined {
  const arm = mm.pageTable("vmsav8-64").lookup(address);
  const x86 = mm.pageTable("x86-64").lookup(address);
  if (JSON.stringify(arm) !== JSON.stringify(x86))
    throw new Error(`the tables disagree: ${JSON.stringify(arm)} and ${JSON.stringify(x86)}`);
  return arm;
}
