/** Text to standard output in large pieces. */
const PIECE = 1 << 16;

export class Output {
  #parts: string[] = [];
  #size = 0;

  line(text: string): void {
    this.#parts.push(text, "\n");
    this.#size += text.length;
    if (this.#size >= PIECE) this.flush();
  }

  flush(): void {
    if (this.#parts.length > 0) process.stdout.write(this.#parts.join(""));
    this.#parts = [];
    this.#size = 0;
  }
}
