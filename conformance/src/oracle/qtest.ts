/**
 * A QEMU driven from outside through its qtest protocol: registers and RAM, no guest code, virtual time only by
 * `clockStep`. Calls are synchronous; a round trip costs 25 µs, so queue what needs no answer and read many answers at once:
 *
 *     const q = new Qtest("aarch64", ["-M", "virt,iommu=smmuv3", …]);   // -qtest and -accel are added
 *     q.writel(0x09050020, 0);                    // queued: sent with the next answer that is wanted, or with flush()
 *     q.store64(0x40000000, hi, lo);              // queued
 *     const prod = q.later("readl 0x090600a8");   // queued; prod.value after flush()
 *     q.flush();
 *     q.readl(0x09050000);                        // one round trip
 *     q.close();
 *
 * An abort of QEMU (a failed assertion, an exit) is a QemuDied with what it said last.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { UsageError } from "../tool.js";
import { findQemu, type QemuTarget } from "./find-qemu.js";

/** Replies of one batch must fit into the pipe while the commands are still being written. */
const BATCH_COMMANDS = 400;
const BATCH_REPLY_BYTES = 24 * 1024;
const PIPE_BYTES = 60 * 1024;
const READ_BUFFER = 1 << 16;

interface Waiting {
  readonly command: string;
  readonly reply: Reply | null;
}

export class QemuDied extends UsageError {
  override readonly name = "QemuDied";
}

/** An answer that comes with the next flush. */
export class Reply {
  text = "";

  /** The number in `OK 0x…`. */
  get value(): number {
    return Number(this.text.slice(3));
  }

  get big(): bigint {
    return BigInt(this.text.slice(3));
  }

  /** The bytes of a b64read. */
  get bytes(): Buffer {
    return Buffer.from(this.text.slice(3), "base64");
  }
}

export class Qtest {
  /** Lines like "IRQ raise 74", in order, since somebody last emptied the list. */
  readonly interrupts: string[] = [];
  readonly version: string;
  readonly #child: ChildProcess;
  readonly #to: number;
  readonly #from: number;
  readonly #buffer = Buffer.alloc(READ_BUFFER);
  readonly #stop = () => this.#child.kill("SIGKILL");
  #commands: string[] = [];
  #queued: Waiting[] = [];
  /** How long the answers to what is queued may be, and to what is in flight. */
  #queuedBytes = 0;
  #inFlight: Waiting[] = [];
  #inFlightBytes = 0;
  #sent = 0;
  #received = 0;
  #rest = "";
  #lines: string[] = [];
  #nextLine = 0;

  constructor(target: QemuTarget, args: readonly string[]) {
    const qemu = findQemu(target);
    this.version = qemu.version;
    const dir = mkdtempSync(join(tmpdir(), "iommukit-qtest-"));
    const [input, output] = [join(dir, "in"), join(dir, "out")];
    execFileSync("mkfifo", [input, output]);
    // Both ends are open before QEMU starts, so that no open() waits; QEMU has only its own ends, so that its death is an EOF.
    const held = [input, output].map((path) => openSync(path, constants.O_RDWR));
    const [stdin, stdout] = [openSync(input, "r"), openSync(output, "w")];
    this.#to = openSync(input, "w");
    this.#from = openSync(output, "r");
    const common = [
      "-qtest",
      "stdio",
      "-qtest-log",
      "none",
      "-accel",
      "qtest",
      "-display",
      "none",
      "-nodefaults",
      "-no-user-config",
    ];
    this.#child = spawn(qemu.file, [...qemu.args, ...common, ...args], { stdio: [stdin, stdout, "ignore"] });
    for (const fd of [...held, stdin, stdout]) closeSync(fd);
    rmSync(dir, { recursive: true });
    process.once("exit", this.#stop);
    this.#child.on("error", () => {});
    this.#child.unref();
  }

  close(): void {
    process.off("exit", this.#stop);
    this.#child.kill("SIGKILL");
    closeSync(this.#to);
    closeSync(this.#from);
  }

  /** Queues a command whose answer nobody reads. */
  send(command: string): void {
    this.#queue(command, null, 4);
  }

  /** Queues a command; its answer is there after the next flush. `bytes` is how long it may be. */
  later(command: string, bytes = 24): Reply {
    const reply = new Reply();
    this.#queue(command, reply, bytes);
    return reply;
  }

  #queue(command: string, reply: Reply | null, bytes: number): void {
    this.#commands.push(command);
    this.#queued.push({ command, reply });
    this.#queuedBytes += bytes;
    if (this.#commands.length >= BATCH_COMMANDS || this.#queuedBytes >= BATCH_REPLY_BYTES) this.submit();
  }

  /**
   * Sends what is queued and does not wait: QEMU works on it while the caller prepares more.
   * @returns what `collect` takes to wait for it
   */
  submit(): number {
    if (this.#commands.length === 0) return this.#sent;
    // What QEMU may have to say before somebody listens must fit into the pipe.
    if (this.#inFlightBytes + this.#queuedBytes > PIPE_BYTES) this.collect(this.#sent);
    this.#write(`${this.#commands.join("\n")}\n`);
    this.#inFlight.push(...this.#queued);
    this.#inFlightBytes += this.#queuedBytes;
    this.#sent += this.#queued.length;
    this.#commands = [];
    this.#queued = [];
    this.#queuedBytes = 0;
    return this.#sent;
  }

  /** Waits for every answer up to what `submit` returned. @throws QemuDied; Error when QEMU refused a command */
  collect(until: number): void {
    const count = until - this.#received;
    for (let i = 0; i < count; i++) {
      const { command, reply } = this.#inFlight[i];
      const line = this.#answer();
      if (!line.startsWith("OK")) throw new Error(`qtest: "${command}" was answered with "${line}"`);
      if (reply !== null) reply.text = line;
    }
    if (count <= 0) return;
    this.#inFlight.splice(0, count);
    this.#received = until;
    if (this.#inFlight.length === 0) this.#inFlightBytes = 0;
  }

  /** Sends what is queued and waits for every answer. */
  flush(): void {
    this.collect(this.submit());
  }

  #write(text: string): void {
    const bytes = Buffer.from(text, "latin1");
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#to, bytes, done);
    } catch (error) {
      throw new QemuDied(`QEMU is gone: ${(error as Error).message}`);
    }
  }

  #answer(): string {
    for (;;) {
      const line = this.#line();
      if (!line.startsWith("IRQ ")) return line;
      this.interrupts.push(line);
    }
  }

  #line(): string {
    while (this.#nextLine >= this.#lines.length) {
      const count = readSync(this.#from, this.#buffer);
      if (count === 0) throw new QemuDied(`QEMU ended${this.#rest === "" ? "" : `: ${this.#rest}`}`);
      const lines = (this.#rest + this.#buffer.toString("latin1", 0, count)).split("\n");
      this.#rest = lines.pop() ?? "";
      this.#lines = lines;
      this.#nextLine = 0;
      const bail = lines.find((line) => line.startsWith("Bail out!"));
      if (bail !== undefined) throw new QemuDied(bail);
    }
    return this.#lines[this.#nextLine++];
  }

  #now(command: string, bytes?: number): Reply {
    const reply = this.later(command, bytes);
    this.flush();
    return reply;
  }

  readl(address: number): number {
    return this.#now(`readl ${address}`).value;
  }

  readq(address: number): bigint {
    return this.#now(`readq ${address}`).big;
  }

  read(address: number, length: number): Buffer {
    return this.#now(`b64read ${address} ${length}`, length * 2).bytes;
  }

  writel(address: number, value: number): void {
    this.send(`writel ${address} ${value >>> 0}`);
  }

  writeq(address: number, value: bigint): void {
    this.send(`writeq ${address} ${value}`);
  }

  /** One 8-byte store of two int32 halves. */
  store64(address: number, hi: number, lo: number): void {
    this.send(`writeq ${address} 0x${(hi >>> 0).toString(16)}${(lo >>> 0).toString(16).padStart(8, "0")}`);
  }

  write(address: number, bytes: Uint8Array): void {
    this.send(`b64write ${address} ${bytes.length} ${Buffer.from(bytes).toString("base64")}`);
  }

  fill(address: number, length: number, byte: number): void {
    this.send(`memset ${address} ${length} ${byte}`);
  }

  /** Lets virtual time pass, in nanoseconds. */
  clockStep(nanoseconds: number): void {
    this.send(`clock_step ${nanoseconds}`);
  }
}
