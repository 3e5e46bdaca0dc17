/**
 * Changes a live 64-byte entry (STE or CD) without a transaction ever seeing half of it (G38, IHI 0070 3.21). Hardware fetches the
 * entry in beats while the CPU stores 8 bytes at a time, and keeps copies until CFGI; so the update goes through whole values,
 * each made visible by a sync before the next one starts:
 *
 * - Bits that the current configuration ignores may be set ahead of time, and bits that the new one ignores be cleared late. If
 *   after that one doubleword is left to change, one store switches between the two: a hitless update.
 * - Otherwise V goes to 0 first and comes back last: transactions that come in between are terminated.
 */
import type { PhysicalMemory, Scheduler } from "@iommukit/core";

/** Doublewords and 32-bit words of an STE or CD. */
const ENTRY_QWORDS = 8;

/** 32-bit words of an STE or a CD. */
export const ENTRY_WORDS = 16;

/** What a kind of entry says of its own bits. */
export interface EntryRules {
  /** A mask of the bits that hardware looks at while the entry is this. */
  usedBits(entry: Int32Array): Int32Array;
  /** Bits that may hold either value while one of the two is replaced by the other. */
  updateSafeBits?(from: Int32Array, to: Int32Array): Int32Array;
}

/** How an update will go: the values that the entry takes, one after another. The last is the target. */
export interface EntryUpdate {
  readonly hitless: boolean;
  readonly values: readonly Int32Array[];
}

/** The values that lead from `current` to `target`; values equal to their predecessor need no sync and are left out. */
export function planUpdate(current: Int32Array, target: Int32Array, rules: EntryRules): EntryUpdate {
  const ahead = setAhead(current, target, rules);
  const usedByTarget = rules.usedBits(target);
  // Bits that the target sets and ignores count as well: only a store of that doubleword brings them.
  const critical = differences(
    ahead.map((word, i) => word & usedByTarget[i]),
    target,
  );
  if (critical.length === 0) return { hitless: true, values: changes(current, [target]) };
  if (critical.length === 1) {
    const prepared = replaceQword(ahead, critical[0], current);
    return { hitless: true, values: changes(current, [prepared, replaceQword(prepared, critical[0], target), target]) };
  }
  const zero = new Int32Array(ENTRY_WORDS);
  const values = [replaceQword(current, 0, zero), replaceQword(target, 0, zero), target];
  return { hitless: false, values: changes(current, values) };
}

/** `current` with every bit of `target` that it does not look at, or that may change at any time. */
function setAhead(current: Int32Array, target: Int32Array, rules: EntryRules): Int32Array {
  const used = rules.usedBits(current);
  const usedByTarget = rules.usedBits(target);
  const safe = rules.updateSafeBits?.(current, target);
  const ahead = current.slice();
  for (let i = 0; i < ENTRY_WORDS; i++) {
    const held = used[i] & ~((safe?.[i] ?? 0) & usedByTarget[i]);
    ahead[i] = (current[i] & held) | (target[i] & ~held);
  }
  return ahead;
}

/** The doublewords that differ. */
function differences(a: Int32Array, b: Int32Array): number[] {
  const found: number[] = [];
  for (let qword = 0; qword < ENTRY_QWORDS; qword++) {
    const word = 2 * qword;
    if (a[word] !== b[word] || a[word + 1] !== b[word + 1]) found.push(qword);
  }
  return found;
}

function replaceQword(entry: Int32Array, qword: number, by: Int32Array): Int32Array {
  const out = entry.slice();
  out[2 * qword] = by[2 * qword];
  out[2 * qword + 1] = by[2 * qword + 1];
  return out;
}

function changes(current: Int32Array, values: readonly Int32Array[]): Int32Array[] {
  return values.filter((value, i) => {
    const before = i === 0 ? current : values[i - 1];
    return differences(before, value).length > 0;
  });
}

/** arm_smmu_write_entry. */
export class EntryWriter {
  constructor(
    private readonly memory: PhysicalMemory,
    private readonly scheduler: Scheduler,
    private readonly rules: EntryRules,
    /** Told of every store. */
    private readonly stored: (address: number, hi: number, lo: number) => void = () => {},
  ) {}

  read(pa: number): Int32Array {
    const entry = new Int32Array(ENTRY_WORDS);
    for (let word = 0; word < ENTRY_WORDS; word++) entry[word] = this.memory.load32(pa + 4 * word);
    return entry;
  }

  /**
   * Brings the entry at `pa` to `target`.
   * @param sync makes what was stored visible: invalidates cached copies of the entry and waits until that is done
   */
  async write(pa: number, target: Int32Array, sync: () => Promise<void>): Promise<EntryUpdate> {
    const update = planUpdate(this.read(pa), target, this.rules);
    for (const value of update.values) {
      await this.#store(pa, value);
      await sync();
    }
    return update;
  }

  /** As the 2018 driver: every doubleword in turn, without looking at what hardware makes of it meanwhile (BUGS L-8). */
  async overwrite(pa: number, target: Int32Array, sync: () => Promise<void>): Promise<void> {
    await this.#store(pa, target);
    await sync();
  }

  async #store(pa: number, value: Int32Array): Promise<void> {
    const before = this.read(pa);
    for (const qword of differences(before, value)) {
      this.memory.store64(pa + 8 * qword, value[2 * qword + 1], value[2 * qword]);
      this.stored(pa + 8 * qword, value[2 * qword + 1], value[2 * qword]);
      const turn = this.scheduler.point("entry store");
      if (turn) await turn;
    }
  }
}
