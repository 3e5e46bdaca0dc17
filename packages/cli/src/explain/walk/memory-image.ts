/** Raw memory from files, each at its physical address: what the walk reads table entries from. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { UsageError } from "../../errors.js";
import { hex } from "../hex.js";

export interface MemoryReader {
  /** Undefined where no image covers all eight bytes. */
  read64(address: bigint): bigint | undefined;
  /** What an entry that is not there means, where that is known. */
  absence?(address: bigint): string | undefined;
  /** Of an entry the first words may be all that is known. */
  readonly partial?: boolean;
}

export class MemoryImages implements MemoryReader {
  readonly #images: { readonly fd: number; readonly base: bigint; readonly end: bigint }[] = [];

  /** @param spec "raw.bin@0x80000000" */
  add(spec: string): void {
    const match = /^(.+)@(0x[0-9a-f]{1,16})$/i.exec(spec);
    if (match === null) throw new UsageError(`--memory ${spec}: FILE@0xADDRESS is wanted, such as raw.bin@0x80000000`);
    let fd: number;
    try {
      fd = openSync(match[1], "r");
    } catch (error) {
      throw new UsageError(`cannot read ${match[1]}: ${(error as Error).message}`, { cause: error });
    }
    const base = BigInt(match[2]);
    const end = base + BigInt(fstatSync(fd).size);
    const other = this.#images.find((image) => base < image.end && image.base < end);
    if (other !== undefined) throw new UsageError(`--memory ${spec} overlaps the image at ${hex(other.base)}`);
    this.#images.push({ fd, base, end });
  }

  read64(address: bigint): bigint | undefined {
    const image = this.#images.find(({ base, end }) => address >= base && address + 8n <= end);
    if (image === undefined) return undefined;
    const bytes = Buffer.alloc(8);
    return readSync(image.fd, bytes, 0, 8, Number(address - image.base)) === 8 ? bytes.readBigUInt64LE() : undefined;
  }

  close(): void {
    for (const { fd } of this.#images) closeSync(fd);
    this.#images.length = 0;
  }
}
