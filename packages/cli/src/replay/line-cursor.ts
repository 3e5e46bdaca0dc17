/** Reads one line of a text from left to right, in bytes: a regular expression and its strings cost several times as much. */

const TAB = 9;
const NEWLINE = 10;
const RETURN = 13;
const SPACE = 32;
const NOTHING = Buffer.alloc(0);

export class LineCursor {
  bytes: Buffer = NOTHING;
  /** Place of the next byte, and of the line's end. */
  at = 0;
  end = 0;
  /** The last hexadecimal number, as two halves of 32 bits. */
  hi = 0;
  lo = 0;
  /** The last decimal number. */
  value = 0;

  set(bytes: Buffer, at: number, end: number): void {
    this.bytes = bytes;
    this.at = at;
    this.end = end;
  }

  /** The next byte; -1 at the end of the line. */
  get next(): number {
    return this.at < this.end ? this.bytes[this.at] : -1;
  }

  /** Steps over a text that has to stand here. False when it does not: then it has not moved. */
  take(text: string): boolean {
    const { bytes, at } = this;
    if (at + text.length > this.end) return false;
    for (let n = 0; n < text.length; n++) if (bytes[at + n] !== text.charCodeAt(n)) return false;
    this.at = at + text.length;
    return true;
  }

  /** Steps over blanks. False when there was none. */
  blanks(): boolean {
    const { bytes, at, end } = this;
    let to = at;
    while (to < end && isBlank(bytes[to])) to++;
    this.at = to;
    return to > at;
  }

  /** Steps over what is no blank. */
  skipWord(): void {
    const { bytes, end } = this;
    let to = this.at;
    while (to < end && !isBlank(bytes[to])) to++;
    this.at = to;
  }

  /** The word that stands here. @param known when it is this, as it often is, no new string is made */
  word(known: string): string {
    const { at } = this;
    this.skipWord();
    const end = this.at;
    this.at = at;
    if (end - at === known.length && this.take(known)) return known;
    this.at = end;
    return this.text(at, end);
  }

  /** Back to behind the last such byte, at most to the start of the line. @returns its place */
  backTo(byte: number): number {
    const { bytes } = this;
    let to = this.at;
    while (to > 0 && bytes[to - 1] !== byte && bytes[to - 1] !== NEWLINE) to--;
    this.at = to;
    return to;
  }

  /** Puts a number of 1 to 16 hexadecimal digits into `hi` and `lo`. */
  hex(): boolean {
    const { bytes, at } = this;
    const end = Math.min(this.end, at + 16);
    let to = at;
    let hi = 0;
    let lo = 0;
    for (; to < end; to++) {
      const digit = hexDigit(bytes[to]);
      if (digit < 0) break;
      hi = (hi << 4) | (lo >>> 28);
      lo = (lo << 4) | digit;
    }
    this.hi = hi;
    this.lo = lo;
    this.at = to;
    return to > at;
  }

  /** Puts a number of decimal digits into `value`. */
  decimal(): boolean {
    const { bytes, at, end } = this;
    let to = at;
    let value = 0;
    for (; to < end && isDigit(bytes[to]); to++) value = value * 10 + bytes[to] - 48;
    this.value = value;
    this.at = to;
    return to > at;
  }

  /** Steps over words up to one that begins so, and over that beginning. False when there is none. */
  find(beginning: string): boolean {
    while (this.at < this.end) {
      this.blanks();
      if (this.take(beginning)) return true;
      this.skipWord();
    }
    return false;
  }

  /** From the next byte to the end of the line. */
  get rest(): string {
    return this.text(this.at, this.end);
  }

  text(from: number, to: number): string {
    return this.bytes.toString("latin1", from, to);
  }
}

export function isDigit(byte: number): boolean {
  return byte >= 48 && byte <= 57;
}

export function isBlank(byte: number): boolean {
  return byte === SPACE || (byte >= TAB && byte <= RETURN);
}

/** Of 0-9 and a-f; -1 for others. */
function hexDigit(byte: number): number {
  if (isDigit(byte)) return byte - 48;
  return byte >= 97 && byte <= 102 ? byte - 87 : -1;
}
