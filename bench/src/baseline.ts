/** The C baseline: compiled by the system's compiler when the benchmark runs, on the tables of the models. */
import { execFileSync } from "node:child_process";
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Arch, type Machine, RAM } from "./machine.js";
import type { Case } from "./stream.js";

export interface Measured {
  /** Millions of translations per second of CPU time. */
  readonly rate: number;
  readonly checksum: number;
}

export class Baseline {
  readonly #directory = mkdtempSync(join(tmpdir(), "iommukit-bench-"));
  readonly #walker = join(this.#directory, "walker");
  readonly #image = join(this.#directory, "ram");

  /** @throws Error when there is no C compiler */
  constructor() {
    const source = fileURLToPath(new URL("../c/walker.c", import.meta.url));
    execFileSync(process.env.CC ?? "gcc", ["-O2", "-o", this.#walker, source], {
      stdio: ["ignore", "ignore", "inherit"],
    });
  }

  load(machine: Machine): void {
    const fd = openSync(this.#image, "w");
    ftruncateSync(fd, RAM.size);
    machine.image((offset, bytes) => writeSync(fd, bytes, 0, bytes.length, offset));
    closeSync(fd);
  }

  run(machine: Machine, arch: Arch, { name, pages }: Case, count: number): Measured {
    const root = machine.roots[arch];
    const words = [this.#image, RAM.base, arch, root, name, pages, count].map(String);
    const [checksum, nanoseconds] = execFileSync(this.#walker, words, { encoding: "utf8" })
      .trim()
      .split(" ")
      .map(Number);
    return { rate: (count / nanoseconds) * 1000, checksum };
  }

  close(): void {
    rmSync(this.#directory, { recursive: true });
  }
}
