/** Two lanes of 32 bits, so that two histories of a million have the same hash with a probability of one in ten thousand. */
export class Hash {
  a = 0;
  b = 0;

  set(a: number, b: number): void {
    this.a = a;
    this.b = b;
  }

  copy(from: Hash): void {
    this.a = from.a;
    this.b = from.b;
  }

  /** What comes next; the order matters. */
  mix(a: number, b: number): void {
    this.a = scramble(this.a ^ a, 0x9e37_79b1);
    this.b = scramble((this.b + b) | 0, 0xc2b2_ae35);
  }

  take(other: Hash): void {
    this.mix(other.a, other.b);
  }

  /** The order does not matter. */
  add(other: Hash): void {
    this.a = (this.a + scramble(other.a, 0x27d4_eb2f)) | 0;
    this.b = (this.b + scramble(other.b, 0x1656_67b1)) | 0;
  }

  /** 53 bits. */
  get value(): number {
    return (this.a >>> 11) * 2 ** 32 + (this.b >>> 0);
  }
}

function scramble(value: number, factor: number): number {
  const h = Math.imul(value ^ (value >>> 16), factor);
  const g = Math.imul(h ^ (h >>> 13), 0x85eb_ca6b);
  return g ^ (g >>> 16);
}

/** Of a name without its numbers: what is made anew in each run has others. */
export function hashOf(text: string): number {
  let h = 0;
  for (let i = 0; i < text.length; i++) {
    const char = text.charCodeAt(i);
    if (char < 0x30 || char > 0x39) h = Math.imul(h ^ char, 0x0100_0193);
  }
  return h;
}
