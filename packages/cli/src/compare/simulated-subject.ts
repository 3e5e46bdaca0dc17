/** A process of the platform itself: the same on every machine, for every seed. */
import { AddressSpaces, type Platform, Random, type ServicePlugin, type Task } from "@iommukit/core";
import type { Subject, SubjectSource } from "./subject.js";

const FILE_SIZE = 16 * 1024 * 1024;
const BUFFER_SIZE = 512 * 1024;
const PAGE_SIZE = 4096;

export class SimulatedSource implements SubjectSource {
  readonly kind = "simulated";
  readonly mayKill = true;
  readonly description: string;
  readonly #file: Uint8Array;
  readonly #args: Uint8Array;
  readonly #alive: { readonly platform: Platform; readonly task: Task }[] = [];

  constructor(private readonly seed: number) {
    this.description = `simulated process (seed ${seed})`;
    const random = new Random(seed);
    this.#file = new Uint8Array(Uint32Array.from({ length: FILE_SIZE / 4 }, () => random.u32()).buffer);
    this.#args = new TextEncoder().encode(`subject\0--seed\0${seed}\0`);
  }

  services(): readonly ServicePlugin[] {
    return [];
  }

  on(platform: Platform): Promise<Subject> {
    return platform.run(() => this.#start(platform), "subject");
  }

  async #start(platform: Platform): Promise<Subject> {
    const task = platform.kernel.spawn({ name: "subject" });
    this.#alive.push({ platform, task });
    const mm = task.memory;
    const file = platform.resolve(AddressSpaces).createFile("subject", FILE_SIZE);
    file.write(0, this.#file);
    // A gap of its own for every seed: another seed means other addresses, page tables and traces.
    await mm.mmap({ length: PAGE_SIZE * (1 + new Random(this.seed).below(512)) });
    const text = await mm.mmap({ length: FILE_SIZE, prot: "rx", file });
    file.close();
    const args = await mm.mmap({ length: PAGE_SIZE, prot: "rw" });
    await mm.write(args, this.#args);
    const buffer = { address: await mm.mmap({ length: BUFFER_SIZE, prot: "rw" }), length: BUFFER_SIZE };
    return {
      pid: task.pid,
      file: {
        address: text,
        length: FILE_SIZE,
        name: `${FILE_SIZE >> 20} MiB from seed ${this.seed}`,
        bytes: this.#file,
      },
      args: { address: args, length: this.#args.length, name: "arguments", bytes: this.#args },
      buffer,
      confirm: () =>
        platform.run(async () => {
          const bytes = new Uint8Array(buffer.length);
          await mm.read(buffer.address, bytes);
          return bytes;
        }, "subject reads its buffer"),
      refresh: async () => !task.exited,
    };
  }

  async kill(): Promise<void> {
    for (const { platform, task } of this.#alive) await platform.run(() => task.exit(), "kill");
  }

  async release(): Promise<void> {}
}
