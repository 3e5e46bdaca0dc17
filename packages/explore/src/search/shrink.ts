/** The fewest differences from the default schedule that still break the same rule. */
import type { Schedule } from "../schedule/schedule.js";

/**
 * Leaves out parts, larger ones first (delta debugging), then moves what is left to earlier choices and smaller possibilities.
 * @param fails runs a schedule; true when it breaks the rule
 */
export async function shrink(schedule: Schedule, fails: (schedule: Schedule) => Promise<boolean>): Promise<Schedule> {
  let entries = [...schedule];
  for (let size = Math.ceil(entries.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < entries.length; ) {
      const without = entries.toSpliced(at, size);
      if (await fails(new Map(without))) entries = without;
      else at += size;
    }
  }
  return new Map(await lower(entries, fails));
}

async function lower(
  entries: readonly [number, number][],
  fails: (schedule: Schedule) => Promise<boolean>,
): Promise<readonly [number, number][]> {
  let best = [...entries];
  for (let i = 0; i < best.length; i++) {
    const [at, option] = best[i];
    for (let smaller = 1; smaller < option; smaller++) {
      const tried = best.with(i, [at, smaller]);
      if (!(await fails(new Map(tried)))) continue;
      best = tried;
      break;
    }
  }
  return best;
}
