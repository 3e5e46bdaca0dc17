/** The memory of the recorder's program: numbered buffers far apart, on 2 MiB borders, and a scratch buffer for bitmaps. */
import { type AddressSpace, type FileMapping, MemoryFile, PAGE_SIZE, type Task } from "@iommukit/core";
import { type Fields, type TranscriptStep, toBig } from "./transcript.js";

type Prot = Parameters<AddressSpace["mprotect"]>[2];

const BUFFER_SPACING = 0x1_0000_0000n;
const BUFFER_BASE = 0x1000_0000_0000n;
export const SCRATCH = 0x20_0000n;
export const SCRATCH_SIZE = 8192;

export class RecordedMemory {
  readonly #buffers = new Map<number, bigint>();
  #file: MemoryFile | undefined;

  /** Address of `{"buf":0,"offset":"0x1000"}` or `{"abs":"0x…"}`. */
  address(place: Fields): bigint {
    if ("abs" in place) return toBig(place.abs);
    return (this.#buffers.get(place.buf as number) ?? 0n) + toBig(place.offset);
  }

  /** @param openBar maps BAR 0 of the device that is open */
  async map(line: TranscriptStep, task: Task, openBar: (length: number) => FileMapping | undefined): Promise<void> {
    const mm = mmOf(task);
    const flags = line.flags as string;
    const address = BUFFER_BASE + BigInt(line.buf as number) * BUFFER_SPACING;
    const length = lengthOf(line);
    const options = { address, fixed: true, length, prot: protOf(line), shared: flags.includes("shared") };
    this.#buffers.set(line.buf as number, address);
    if (flags.includes("BAR0")) await mm.mmap({ ...options, device: openBar(length) });
    else if (flags.includes("file")) {
      this.#file ??= new MemoryFile(mm.environment, "/tmp/filebuf", length);
      await mm.mmap({ ...options, file: this.#file });
    } else {
      await mm.mmap(options);
      if (flags.includes("|touched")) await mm.write(address, new Uint8Array(length));
    }
  }

  unmap(line: TranscriptStep, task: Task): Promise<void> {
    return mmOf(task).munmap(this.address(line), lengthOf(line));
  }

  protect(line: TranscriptStep, task: Task): Promise<void> {
    return mmOf(task).mprotect(this.address(line), lengthOf(line), protOf(line));
  }

  replace(line: TranscriptStep, task: Task): Promise<bigint> {
    return mmOf(task).mmap({ address: this.address(line), length: lengthOf(line), fixed: true });
  }

  lock(line: TranscriptStep, task: Task): Promise<void> {
    return mmOf(task).mlock(this.address(line), lengthOf(line));
  }

  async fill(line: TranscriptStep, task: Task): Promise<void> {
    await mmOf(task).write(this.address(line), new Uint8Array(lengthOf(line)).fill(line.byte as number));
  }

  async peek(line: TranscriptStep, task: Task): Promise<Uint8Array> {
    const bytes = new Uint8Array(line.len as number);
    await mmOf(task).read(this.address(line), bytes);
    return bytes;
  }

  close(): void {
    this.#file?.close();
  }
}

export function mmOf(task: Task): AddressSpace {
  return task.mm as AddressSpace;
}

export function vmLck(task: Task): number {
  return (mmOf(task).lockedVm * PAGE_SIZE) / 1024;
}

export function lengthOf(line: TranscriptStep): number {
  return Number(toBig(line.len));
}

function protOf({ prot }: TranscriptStep): Prot {
  return prot === "" ? "none" : (prot as Prot);
}
