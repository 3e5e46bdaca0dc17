/**
 * What the accelerator's descriptors do. An operation works in pieces through the DMA engine, knows how far it came when
 * one faults, and tells it in the completion record.
 */
import { Access, type Scheduler } from "@iommukit/core";
import type { DmaEngine, DmaResult } from "../../dma-engine.js";
import { DmaStatus } from "../../dma-status.js";
import { crc32, crc32c } from "./crc.js";
import { CompletionStatus, Opcode } from "./descriptor.js";
import type { WorkItem } from "./work.js";

export interface Completion {
  /** A CompletionStatus. */
  status: number;
  faultOnWrite: boolean;
  result: number;
  completed: number;
  faultAddress: bigint | undefined;
  value: bigint;
}

export function success(): Completion {
  return {
    status: CompletionStatus.SUCCESS,
    faultOnWrite: false,
    result: 0,
    completed: 0,
    faultAddress: undefined,
    value: 0n,
  };
}

/** Bytes that are moved at a time. */
const PIECE = 16384;
const NODE_WORD = 8;

const STATUS_OF_DMA: Readonly<Record<number, number>> = {
  [DmaStatus.NOT_PRESENT]: CompletionStatus.PAGE_FAULT_NO_BLOCK,
  [DmaStatus.INVALID_PAGE]: CompletionStatus.PAGE_FAULT_INVALID_RESPONSE,
};

export class Operations {
  /** @param bytesPerMicrosecond how fast data moves in virtual time; Infinity: in no time */
  constructor(
    private readonly dma: DmaEngine,
    private readonly scheduler: Scheduler,
    private readonly bytesPerMicrosecond: number,
  ) {}

  /** Runs one descriptor that is neither BATCH nor DRAIN. */
  async run(item: WorkItem): Promise<Completion> {
    const done = success();
    const { opcode } = item.descriptor;
    switch (opcode) {
      case Opcode.NOOP:
        break;
      case Opcode.MEMMOVE:
        await this.#move(item, done);
        break;
      case Opcode.MEMFILL:
        await this.#fill(item, done);
        break;
      case Opcode.COMPARE:
      case Opcode.COMPVAL:
        await this.#compare(item, done);
        break;
      case Opcode.DUALCAST:
      case Opcode.CRCGEN:
      case Opcode.COPY_CRC:
      case Opcode.CRC32:
        await this.#stream(item, done);
        break;
      case Opcode.POINTER_CHASE:
        await this.#chase(item, done);
        break;
      case Opcode.LIST_SORT:
        await this.#sort(item, done);
        break;
      default:
        done.status = CompletionStatus.BAD_OPCODE;
    }
    return done;
  }

  async read(item: WorkItem, address: bigint, into: Uint8Array): Promise<DmaResult> {
    const result = await this.dma.read(item.pasid, address, into, this.#options(item));
    await this.#spend(result.done);
    return result;
  }

  async write(item: WorkItem, address: bigint, bytes: Uint8Array, pasid = item.pasid): Promise<DmaResult> {
    const result = await this.dma.write(pasid, address, bytes, this.#options(item));
    await this.#spend(result.done);
    return result;
  }

  async #spend(bytes: number): Promise<void> {
    const nanoseconds = (bytes * 1000) / this.bytesPerMicrosecond;
    if (nanoseconds > 0) await this.scheduler.sleep(nanoseconds);
  }

  #options(item: WorkItem) {
    return {
      onFault: item.blockOnFault ? "request" : "report",
      access: item.privileged ? Access.PRIV : 0,
      owner: item,
    } as const;
  }

  /** @returns whether all was moved; else the completion says what happened */
  #check(result: DmaResult, write: boolean, done: Completion): boolean {
    if (result.status === DmaStatus.OK) return true;
    done.status = STATUS_OF_DMA[result.status] ?? CompletionStatus.TRANSLATION_FAIL;
    done.faultOnWrite = write;
    done.faultAddress = result.address;
    return false;
  }

  /** Source and destination may overlap: then it goes from the end, and Result is 1. */
  async #move(item: WorkItem, done: Completion): Promise<void> {
    const { source, destination, size } = item.descriptor;
    const backwards = destination > source && destination < source + BigInt(size);
    done.result = backwards ? 1 : 0;
    while (done.completed < size && !item.aborted) {
      const count = Math.min(PIECE, size - done.completed);
      const at = BigInt(backwards ? size - done.completed - count : done.completed);
      const bytes = new Uint8Array(count);
      const got = await this.read(item, source + at, bytes);
      // What was read before a fault is written, unless a backward copy would leave a hole.
      const usable = got.status === DmaStatus.OK ? count : backwards ? 0 : got.done;
      const put = usable === 0 ? undefined : await this.write(item, destination + at, bytes.subarray(0, usable));
      if (put && !(backwards && put.status !== DmaStatus.OK)) done.completed += put.done;
      if (put && !this.#check(put, true, done)) return;
      if (!this.#check(got, false, done)) return;
    }
  }

  async #fill(item: WorkItem, done: Completion): Promise<void> {
    const { source: pattern, destination, size } = item.descriptor;
    const piece = patternBytes(pattern, PIECE);
    while (done.completed < size && !item.aborted) {
      const count = Math.min(PIECE, size - done.completed);
      const put = await this.write(item, destination + BigInt(done.completed), piece.subarray(0, count));
      done.completed += put.done;
      if (!this.#check(put, true, done)) return;
    }
  }

  async #compare(item: WorkItem, done: Completion): Promise<void> {
    const { source, destination, size, opcode } = item.descriptor;
    const pattern = opcode === Opcode.COMPVAL ? patternBytes(destination, PIECE) : undefined;
    while (done.completed < size && !item.aborted) {
      const count = Math.min(PIECE, size - done.completed);
      const first = new Uint8Array(count);
      const one = await this.read(item, source + BigInt(done.completed), first);
      const second = pattern?.subarray(0, count) ?? new Uint8Array(count);
      const two = pattern ? one : await this.read(item, destination + BigInt(done.completed), second);
      const limit = Math.min(one.done, two.done);
      const difference = firstDifference(first, second, limit);
      done.completed += difference;
      if (difference < limit) {
        done.status = CompletionStatus.SUCCESS_PREDICATE;
        done.result = 1;
        return;
      }
      if (!this.#check(one.done <= two.done ? one : two, false, done)) return;
    }
  }

  /** One source, up to two destinations, an optional CRC. */
  async #stream(item: WorkItem, done: Completion): Promise<void> {
    const { source, destination, size, opcode, specific } = item.descriptor;
    const targets =
      opcode === Opcode.DUALCAST ? [destination, specific] : opcode === Opcode.COPY_CRC ? [destination] : [];
    const update = opcode === Opcode.CRC32 ? crc32 : crc32c;
    let crc = opcode === Opcode.DUALCAST ? 0 : Number(specific & 0xffff_ffffn);
    while (done.completed < size && !item.aborted) {
      const bytes = new Uint8Array(Math.min(PIECE, size - done.completed));
      const at = BigInt(done.completed);
      const got = await this.read(item, source + at, bytes);
      if (!this.#check(got, false, done)) return;
      for (const target of targets) {
        const put = await this.write(item, target + at, bytes);
        if (!this.#check(put, true, done)) return;
      }
      if (opcode !== Opcode.DUALCAST) crc = update(crc, bytes);
      done.completed += bytes.length;
      done.value = BigInt(crc);
    }
  }

  /** Node after node until a null pointer or until `size` nodes have been visited. */
  async #chase(item: WorkItem, done: Completion): Promise<void> {
    const { source, size, specific } = item.descriptor;
    let node: bigint | undefined = source;
    while (node !== 0n && done.completed < size && !item.aborted) {
      done.value = node;
      node = await this.#load(item, node + specific, done);
      if (node === undefined) return;
      done.completed++;
    }
  }

  /** A 64-bit word of a node; undefined when it could not be read. */
  async #load(item: WorkItem, address: bigint, done: Completion): Promise<bigint | undefined> {
    const word = new Uint8Array(NODE_WORD);
    const got = await this.read(item, BigInt.asUintN(64, address), word);
    return this.#check(got, false, done) ? new DataView(word.buffer).getBigUint64(0, true) : undefined;
  }

  /** Equal keys keep their order. Nothing is written before every node has been read. */
  async #sort(item: WorkItem, done: Completion): Promise<void> {
    const { source, size, specific: pointer, specific1: key } = item.descriptor;
    const nodes: { readonly node: bigint; readonly value: bigint }[] = [];
    for (let node = source; node !== 0n && nodes.length < size && !item.aborted; ) {
      const value = await this.#load(item, node + key, done);
      const next = value === undefined ? undefined : await this.#load(item, node + pointer, done);
      if (value === undefined || next === undefined) return;
      nodes.push({ node, value });
      node = next;
    }
    nodes.sort((a, b) => (a.value < b.value ? -1 : a.value > b.value ? 1 : 0));
    for (const [i, { node }] of nodes.entries()) {
      if (item.aborted) return;
      const next = BigUint64Array.of(nodes[i + 1]?.node ?? 0n);
      const put = await this.write(item, BigInt.asUintN(64, node + pointer), new Uint8Array(next.buffer));
      if (!this.#check(put, true, done)) return;
      done.completed++;
    }
    done.value = nodes[0]?.node ?? 0n;
  }
}

function patternBytes(pattern: bigint, length: number): Uint8Array {
  return new Uint8Array(new BigUint64Array(length / 8).fill(pattern).buffer);
}

/** Index of the first byte that differs; `limit` when none does. */
function firstDifference(a: Uint8Array, b: Uint8Array, limit: number): number {
  for (let i = 0; i < limit; i++) if (a[i] !== b[i]) return i;
  return limit;
}
