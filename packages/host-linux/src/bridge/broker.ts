/** The programs' eventfds: a small process holds them, since Node cannot. Signalled ones go to it as they come. */
import { type ChildProcess, spawn } from "node:child_process";
import { EventFd, type Scheduler } from "@iommukit/core";

/** shim/broker.c reads these. */
const Command = { SIGNAL: 1, WATCH: 2, DROP: 3 } as const;

export class Broker {
  #nextId = 1;
  #buffer: Buffer = Buffer.alloc(0);
  readonly #watched = new Map<number, () => void>();
  /** An eventfd that no device knows any more is given back. */
  readonly #collected = new FinalizationRegistry<number>((id) => this.#send(Command.DROP, id));

  private constructor(private readonly child: ChildProcess) {
    child.stdin?.on("error", () => {});
    child.stdout?.on("data", (chunk: Buffer) => this.#received(chunk));
  }

  /** @param socket where programs find it */
  static async start(program: string, socket: string, key: string): Promise<Broker> {
    const child = spawn(program, [socket], {
      env: { IOMMUKIT_KEY: key },
      stdio: ["pipe", "pipe", "inherit"],
      detached: true,
    });
    await new Promise<void>((resolve, reject) => {
      child.stdout?.once("data", () => resolve());
      child.once("error", reject);
      child.once("exit", (status) => reject(new Error(`${program} ended with status ${status}`)));
    });
    return new Broker(child);
  }

  /** An eventfd of a program's, which the program will give to the broker under the id. */
  adopt(scheduler: Scheduler): { readonly id: number; readonly event: EventFd } {
    const id = this.#nextId++;
    const event = new BrokeredEventFd(
      scheduler,
      () => this.#send(Command.SIGNAL, id),
      (signalled) => this.#watch(id, signalled),
    );
    this.#collected.register(event, id);
    return { id, event };
  }

  #watch(id: number, signalled: () => void): void {
    this.#watched.set(id, signalled);
    this.#send(Command.WATCH, id);
  }

  #send(command: number, id: number): void {
    const record = Buffer.alloc(8);
    record.writeUInt32LE(command, 0);
    record.writeUInt32LE(id, 4);
    if (this.child.stdin?.writable) this.child.stdin.write(record);
  }

  #received(chunk: Buffer): void {
    this.#buffer = Buffer.concat([this.#buffer, chunk]);
    for (; this.#buffer.length >= 4; this.#buffer = this.#buffer.subarray(4))
      this.#watched.get(this.#buffer.readUInt32LE(0))?.();
  }

  async stop(): Promise<void> {
    const gone = new Promise<void>((resolve) => this.child.once("exit", () => resolve()));
    this.child.stdin?.end();
    if (this.child.exitCode === null) await gone;
  }
}

class BrokeredEventFd extends EventFd {
  readonly #program: () => void;
  readonly #watch: (signalled: () => void) => void;
  #watched = false;

  constructor(scheduler: Scheduler, program: () => void, watch: (signalled: () => void) => void) {
    super(scheduler);
    this.#program = program;
    this.#watch = watch;
  }

  /** The device signals: the program's descriptor becomes readable. */
  override signal(): void {
    this.#program();
  }

  /** The program signals: whoever listens hears of it. */
  override onSignal(listener: () => void): () => void {
    if (!this.#watched) this.#watch(() => super.signal());
    this.#watched = true;
    return super.onSignal(listener);
  }
}
