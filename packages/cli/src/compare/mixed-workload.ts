/**
 * What every backend is asked to do, the same descriptors in the same order: checksums over a mapped file and over the
 * argument strings, then, in a process of ours, copies, fills, comparisons and a pointer chase in its buffer. Each result
 * is held against bytes that this product did not make.
 */
import { crc32 } from "node:zlib";
import type { BackendRun } from "./backend-run.js";
import type { Machine } from "./machine.js";

const MIB = 1024 * 1024;
const CHUNK = MIB / 4;
const FILL = 0x1122_3344_5566_7788n;
const NODES = 64;
const NODE_SIZE = 256;

export interface Verification {
  /** Every check passed. */
  readonly verified: boolean;
  /** One line for each check: what was compared with what. */
  readonly checks: readonly { readonly what: string; readonly ok: boolean; readonly detail?: string }[];
  /** Bytes that descriptors asked to move. */
  readonly bytes: number;
}

export class MixedWorkload {
  readonly #checks: { what: string; ok: boolean; detail?: string }[] = [];
  #bytes = 0;

  /** @param target bytes to read at least; the file is read again when it is smaller */
  constructor(
    private readonly run: BackendRun,
    private readonly target: number,
    private readonly progress: (bytes: number, of: number) => void,
  ) {}

  async execute(): Promise<Verification> {
    await this.#inside(() => this.#readFile());
    await this.#inside(() => this.#readArguments());
    if (this.run.subject.buffer) {
      const expected = await this.#inside(() => this.#useBuffer());
      const found = await this.run.subject.confirm();
      const same = found.length === expected.length && Buffer.compare(found, expected) === 0;
      this.#check("buffer as the process itself reads it", same, same ? undefined : differenceOf(found, expected));
    }
    return { verified: this.#checks.every(({ ok }) => ok), checks: this.#checks, bytes: this.#bytes };
  }

  #inside<T>(body: () => Promise<T>): Promise<T> {
    return this.run.machine.platform.run(body, "workload");
  }

  #check(what: string, ok: boolean, detail?: string): void {
    this.#checks.push(detail === undefined || ok ? { what, ok } : { what, ok, detail });
  }

  async #readFile(): Promise<void> {
    const { file } = this.run.subject;
    let wrong: string | undefined;
    for (let done = 0; done < this.target && wrong === undefined; ) {
      const offset = done % file.length;
      const size = Math.min(CHUNK, file.length - offset);
      wrong = await this.#crc(file.address + BigInt(offset), file.bytes.subarray(offset, offset + size));
      done += size;
      this.progress(done, this.target);
    }
    this.#check(`${file.name}: CRC32 of memory equals that of the file`, wrong === undefined, wrong);
  }

  async #readArguments(): Promise<void> {
    const { args } = this.run.subject;
    const wrong = await this.#crc(args.address, args.bytes);
    this.#check(`${args.name}: CRC32 of memory equals that of the text`, wrong === undefined, wrong);
  }

  /** @returns what is wrong */
  async #crc(address: bigint, bytes: Uint8Array): Promise<string | undefined> {
    const record = await this.run.machine.execute({ Opcode: "CRC32", Source: address, TransferSize: bytes.length });
    this.#bytes += bytes.length;
    const expected = crc32(bytes);
    if (record.Status === "SUCCESS" && Number(record.OperationResult) === expected) return undefined;
    return `0x${address.toString(16)}+0x${bytes.length.toString(16)}: ${record.Status}, CRC32 0x${record.OperationResult.toString(16)}, expected 0x${expected.toString(16)}`;
  }

  /** @returns what the buffer must hold in the end */
  async #useBuffer(): Promise<Uint8Array> {
    const { file, buffer } = this.run.subject;
    if (!buffer) throw new Error("no buffer");
    const half = buffer.length / 2;
    const expected = new Uint8Array(buffer.length);
    const view = new DataView(expected.buffer);
    const at = (offset: number) => buffer.address + BigInt(offset);

    await this.#do("copy of the file into the buffer", half, {
      Opcode: "MEMMOVE",
      Source: file.address,
      Destination: at(0),
      TransferSize: half,
    });
    expected.set(file.bytes.subarray(0, half));
    await this.#do("comparison of copy and file", 2 * half, {
      Opcode: "COMPARE",
      Source: file.address,
      Destination: at(0),
      TransferSize: half,
    });
    await this.#do("fill", half, { Opcode: "MEMFILL", Source: FILL, Destination: at(half), TransferSize: half });
    for (let offset = half; offset < buffer.length; offset += 8) view.setBigUint64(offset, FILL, true);

    for (let node = 0; node < NODES; node++) {
      const offset = half + node * NODE_SIZE;
      const next = node === NODES - 1 ? 0n : at(offset + NODE_SIZE);
      await this.#do("", 8, { Opcode: "MEMFILL", Source: next, Destination: at(offset), TransferSize: 8 });
      view.setBigUint64(offset, next, true);
    }
    const last = at(half + (NODES - 1) * NODE_SIZE);
    const found = await this.#do("", NODES * 8, { Opcode: "POINTER_CHASE", Source: at(half), TransferSize: NODES });
    this.#check(
      `pointer chase over ${NODES} nodes ends at the last`,
      BigInt(found.OperationResult) === last,
      `0x${found.OperationResult.toString(16)}, expected 0x${last.toString(16)}`,
    );
    return expected;
  }

  async #do(what: string, bytes: number, fields: Parameters<Machine["execute"]>[0]) {
    const record = await this.run.machine.execute(fields);
    this.#bytes += bytes;
    const ok = record.Status === "SUCCESS" && record.Result === 0;
    if (what !== "" || !ok)
      this.#check(what || String(fields.Opcode), ok, `${record.Status} at 0x${record.FaultAddress.toString(16)}`);
    return record;
  }
}

function differenceOf(found: Uint8Array, expected: Uint8Array): string {
  const at = found.findIndex((byte, i) => byte !== expected[i]);
  return `${found.length} bytes read, ${expected.length} expected, first difference at ${at}`;
}
