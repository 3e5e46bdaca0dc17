/** What a workload works with: processes, descriptors, bytes at random, and the comparison of what came out with what must. */
import { type AddressSpace, Random, type Task } from "@iommukit/core";
import type { DescriptorFields } from "@iommukit/pci-device";
import { type Completion, type Machine, RECORDS } from "../machine.js";
import type { Verification } from "../mixed-workload.js";
import type { NamedWorkload } from "./named-workload.js";

/** A process that is bound: the device uses its addresses. */
export interface Shared {
  readonly memory: AddressSpace;
  readonly pasid: number;
}

/** Descriptors under way at most, so that no completion record is used twice. */
const UNDER_WAY = RECORDS / 2;
/** Bytes of a descriptor of a longer piece of work. */
export const PIECE = 256 * 1024;

export class Bench {
  readonly random: Random;
  readonly pasids: number[] = [];
  readonly #tasks: Task[] = [];
  readonly #checks: { what: string; ok: boolean; detail?: string }[] = [];
  #moved = 0;

  /** How much memory to work on. */
  readonly bytes: number;
  readonly #label: string;

  /** @param machine one that nobody has used */
  constructor(
    readonly machine: Machine,
    { label, bytes, seed }: { readonly label: string; readonly bytes: number; readonly seed: number },
  ) {
    this.random = new Random(seed);
    this.bytes = bytes;
    this.#label = label;
  }

  /** @throws UsageError when the machine cannot share address spaces */
  async run(workload: NamedWorkload): Promise<Verification> {
    await this.machine.platform.run(async () => {
      await this.machine.setUp();
      await workload.run(this);
    }, workload.name);
    return { verified: this.#checks.every(({ ok }) => ok), checks: this.#checks, bytes: this.#moved };
  }

  /** The processes are killed: what they had comes back. */
  async end(): Promise<void> {
    for (const task of this.#tasks) await task.exit();
  }

  /** New processes, bound, and the device enabled with one queue that takes descriptors for all of them. */
  async shared(count: number): Promise<readonly Shared[]> {
    const processes: Shared[] = [];
    for (let n = 0; n < count; n++) {
      const task = this.machine.platform.kernel.spawn({ name: `worker ${n}` });
      this.#tasks.push(task);
      const pasid = await this.machine.bind(task.pid, this.#label);
      this.pasids.push(pasid);
      processes.push({ memory: task.memory, pasid });
    }
    await this.machine.enable([{ size: UNDER_WAY, mode: "shared", pasid: "submitter" }]);
    return processes;
  }

  /** The device enabled with a queue whose addresses are those of MAP_DMA. */
  async unshared(): Promise<void> {
    await this.machine.enable([{ size: UNDER_WAY }]);
  }

  bytesAtRandom(length: number): Uint8Array {
    return new Uint8Array(Uint32Array.from({ length: length / 4 }, () => this.random.u32()).buffer);
  }

  /** All of them, some at a time, in any order; each must succeed. */
  async executeAll(descriptors: Iterable<DescriptorFields>): Promise<void> {
    const slots: number[] = [];
    for (const fields of descriptors) {
      if (slots.length === UNDER_WAY) this.#completed(await this.machine.wait(slots.shift() as number));
      slots.push(await this.machine.submit(fields));
      this.#moved += Number(fields.TransferSize ?? 0);
    }
    for (const slot of slots) this.#completed(await this.machine.wait(slot));
  }

  async execute(fields: DescriptorFields, bytes = Number(fields.TransferSize ?? 0)): Promise<Completion> {
    const record = await this.machine.execute(fields);
    this.#moved += bytes;
    this.#completed(record);
    return record;
  }

  #completed(record: Completion): void {
    if (record.Status !== "SUCCESS")
      this.#checks.push({
        what: "a descriptor",
        ok: false,
        detail: `${record.Status} at 0x${record.FaultAddress.toString(16)}`,
      });
  }

  /** What the program itself finds in memory is what must be there, byte for byte. */
  async check(what: string, memory: AddressSpace, address: bigint, expected: Uint8Array): Promise<void> {
    const found = new Uint8Array(expected.length);
    await memory.read(address, found);
    const at = found.findIndex((byte, n) => byte !== expected[n]);
    this.agree(what, at < 0, `first difference at byte ${at} of ${expected.length}`);
  }

  agree(what: string, ok: boolean, detail: string): void {
    this.#checks.push(ok ? { what, ok } : { what, ok, detail });
  }
}
