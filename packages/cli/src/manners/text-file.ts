/** A file that is written from front to back, in pieces, so that its length does not matter. */
import { closeSync, openSync, writeSync } from "node:fs";
import { UsageError } from "../errors.js";

export class TextFile {
  readonly #fd: number;
  #text = "";

  /**
   * @param piece as many characters are written at a time; 0: each text at once, so that nothing is lost when we are killed
   * @throws UsageError it cannot be written
   */
  constructor(
    private readonly path: string,
    private readonly piece = 1 << 16,
  ) {
    this.#fd = this.#attempt(() => openSync(path, "w"));
  }

  write(text: string): void {
    this.#text += text;
    if (this.#text.length >= this.piece) this.#flush();
  }

  close(): void {
    this.#flush();
    closeSync(this.#fd);
  }

  #flush(): void {
    const text = this.#text;
    this.#text = "";
    this.#attempt(() => writeSync(this.#fd, text));
  }

  #attempt<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      throw new UsageError(`cannot write ${this.path}: ${(error as Error).message}`, { cause: error });
    }
  }
}
