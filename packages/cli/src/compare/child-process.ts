/**
 * A small child process to bind: it allocates buffers, fills them with a token that only it and we can derive, and on
 * request writes back what it finds in them. Everything else about it is whatever its runtime maps.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { ProcessFiles } from "@iommukit/host-linux";
import type { Range } from "./subject.js";

/** Runs in the child. Argument 1 is the number of buffers, 2 their size, 3 the key of their tokens. */
const PROGRAM = `
const { createHash } = require("node:crypto");
const [count, size, key] = process.argv.slice(1);
const buffers = Array.from({ length: Number(count) }, (_, i) => {
  const buffer = Buffer.allocUnsafeSlow(Number(size));
  const token = createHash("sha256").update(key + i).digest();
  for (let at = 0; at + 32 <= buffer.length; at += 32) token.copy(buffer, at);
  return buffer;
});
require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
  process.stdout.write(buffers[Number(line)].toString("base64") + "\\n");
}).on("close", () => process.exit(0));
process.stdout.write("ready\\n");
`;

export class ChildSubject {
  readonly #lines: AsyncIterator<string>;

  private constructor(
    readonly process: ChildProcess,
    readonly pid: number,
    private readonly key: string,
    private readonly size: number,
  ) {
    if (!process.stdout) throw new Error("the child has no stdout");
    this.#lines = createInterface({ input: process.stdout })[Symbol.asyncIterator]();
  }

  static async start(buffers: number, size: number, key: string): Promise<ChildSubject> {
    const child = spawn(process.execPath, ["-e", PROGRAM, String(buffers), String(size), key], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    await once(child, "spawn");
    const subject = new ChildSubject(child, child.pid ?? 0, key, size);
    await subject.#line();
    return subject;
  }

  async #line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`child ${this.pid} ended early`);
    return value;
  }

  /** What the child itself finds in its n-th buffer. */
  async contents(buffer: number): Promise<Uint8Array> {
    this.process.stdin?.write(`${buffer}\n`);
    return Buffer.from(await this.#line(), "base64");
  }

  /** Finds the n-th buffer in the child's memory by its token. */
  locate(files: ProcessFiles, buffer: number): Range {
    const token = createHash("sha256").update(`${this.key}${buffer}`).digest();
    const start = Buffer.concat([token, token, token, token]);
    for (const { start: from, end, write, read } of files.maps()) {
      if (!read || !write || from >= 1n << 47n) continue;
      const bytes = Buffer.alloc(Number(end - from));
      const found = bytes.subarray(0, files.read(from, bytes)).indexOf(start);
      if (found >= 0) return { address: from + BigInt(found), length: this.size };
    }
    throw new Error(`buffer ${buffer} of child ${this.pid} not found in its memory`);
  }

  async kill(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const exit = once(this.process, "exit");
    this.process.kill("SIGKILL");
    await exit;
  }
}
