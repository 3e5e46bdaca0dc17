/**
 * What a chip found lately for a requester and a PASID, one answer a slot. All are forgotten when a configuration cache changes,
 * which each miss does: so only those are visited that have been given since.
 */
const SLOT_BITS = 6;

/** One slot. */
export interface RecentAnswer {
  /** Whose it is; -1 when it does not count. */
  sid: number;
  /** It was given since all were forgotten. */
  given: boolean;
}

/** Where the answer for them stands. */
export function recentSlot(sid: number, pasid: number): number {
  return Math.imul(sid ^ (pasid << 12), 0x9e37_79b1) >>> (32 - SLOT_BITS);
}

/** The slots of one chip. */
export class RecentAnswers<T extends RecentAnswer> {
  /** By `recentSlot`. */
  readonly slots: readonly T[];
  readonly #given: T[] = [];

  constructor(make: () => T) {
    this.slots = Array.from({ length: 1 << SLOT_BITS }, make);
  }

  /** The answer, one of the slots', counts from now on. */
  give(answer: T): void {
    if (answer.given) return;
    answer.given = true;
    this.#given.push(answer);
  }

  forget(): void {
    for (let answer = this.#given.pop(); answer !== undefined; answer = this.#given.pop()) {
      answer.sid = -1;
      answer.given = false;
    }
  }
}
