/**
 * The registers of one unit: storage, reset, access rules and hooks. Software's reads and writes go through
 * `read32`…`write64`; the hardware reads and changes `words` directly through the fields (`CR0.SMMUEN.get(file.words, CR0.index)`).
 * Offsets without a register read as zero and ignore writes.
 */
import type { AnyRegister } from "./register.js";

/** Runs after a write; `written` has bit 0 set for the low word, bit 1 for the high word. */
export type WriteHook = (written: number) => void;
/** Bits of one word that may change now: registers that are guarded by an enable bit elsewhere. */
export type WriteGuard = (word: number) => number;
/** Runs before a read: for registers whose value is computed. */
export type ReadHook = (word: number) => void;

/** The register of each word. */
type Owners = readonly (AnyRegister | undefined)[];

/** Units with the same list of registers share what is known of it. */
const OWNERS = new WeakMap<readonly AnyRegister[], Owners>();

function ownersOf(name: string, size: number, registers: readonly AnyRegister[]): Owners {
  const known = OWNERS.get(registers);
  if (known !== undefined) return known;
  const owners: (AnyRegister | undefined)[] = [];
  for (const register of registers) {
    for (let word = 0; word < register.words; word++) {
      const index = register.index + word;
      const other = owners[index];
      if (index >= size >> 2) throw new Error(`${name}: ${register.name} leaves the register space`);
      if (other) throw new Error(`${name}: ${register.name} overlaps ${other.name}`);
      owners[index] = register;
    }
  }
  OWNERS.set(registers, owners);
  return owners;
}

/** The registers of one unit: offsets in bytes, values as int32 words; `onWrite` hooks run after the access rules. */
export class RegisterFile {
  readonly words: Int32Array;
  readonly #owner: Owners;
  /** By the register's index. */
  readonly #onWrite = new Map<number, WriteHook>();
  readonly #onRead = new Map<number, ReadHook>();
  readonly #guard = new Map<number, WriteGuard>();

  /** @param size bytes of the register space, a multiple of 4 */
  constructor(
    readonly name: string,
    readonly size: number,
    readonly registers: readonly AnyRegister[],
  ) {
    this.words = new Int32Array(size >> 2);
    this.#owner = ownersOf(name, size, registers);
    this.#preset();
  }

  reset(): void {
    this.words.fill(0);
    this.#preset();
  }

  #preset(): void {
    for (const { resetWords, index } of this.registers)
      for (let word = 0; word < resetWords.length; word++) this.words[index + word] = resetWords[word];
  }

  onWrite(register: AnyRegister, hook: WriteHook): void {
    this.#onWrite.set(register.index, hook);
  }

  onRead(register: AnyRegister, hook: ReadHook): void {
    this.#onRead.set(register.index, hook);
  }

  guard(register: AnyRegister, guard: WriteGuard): void {
    this.#guard.set(register.index, guard);
  }

  /** Sets a whole register from the hardware's side, without access rules. */
  set(register: AnyRegister, lo: number, hi = 0): void {
    this.words[register.index] = lo;
    if (register.words > 1) this.words[register.index + 1] = hi;
  }

  /** Low word, from the hardware's side. */
  get(register: AnyRegister): number {
    return this.words[register.index];
  }

  registerAt(offset: number): AnyRegister | undefined {
    return this.#owner[offset >> 2];
  }

  read32(offset: number): number {
    const register = this.#owner[offset >> 2];
    if (!register) return 0;
    const word = (offset >> 2) - register.index;
    this.#onRead.get(register.index)?.(word);
    return (this.words[offset >> 2] & ~register.hiddenMasks[word]) >>> 0;
  }

  write32(offset: number, value: number): void {
    const register = this.#owner[offset >> 2];
    if (!register) return;
    const word = (offset >> 2) - register.index;
    this.#store(register, word, value);
    this.#onWrite.get(register.index)?.(1 << word);
  }

  read64(offset: number): bigint {
    const lo = this.read32(offset);
    return (BigInt(this.read32(offset + 4)) << 32n) | BigInt(lo);
  }

  /** Both halves are stored before the hook of a 64-bit register runs, once. */
  write64(offset: number, value: bigint): void {
    const lo = Number(value & 0xffff_ffffn);
    const hi = Number((value >> 32n) & 0xffff_ffffn);
    const register = this.#owner[offset >> 2];
    if (register?.words === 2 && register.index === offset >> 2) {
      this.#store(register, 0, lo);
      this.#store(register, 1, hi);
      this.#onWrite.get(register.index)?.(3);
      return;
    }
    this.write32(offset, lo);
    this.write32(offset + 4, hi);
  }

  #store(register: AnyRegister, word: number, value: number): void {
    const index = register.index + word;
    const allowed = this.#guard.get(register.index)?.(word) ?? -1;
    const write = register.writeMasks[word] & allowed;
    let next = (this.words[index] & ~write) | (value & write);
    next &= ~(value & register.clearMasks[word] & allowed);
    next |= value & register.setMasks[word] & allowed;
    this.words[index] = next;
  }
}
