/** The fewest differences from the default schedule that still break the same rule. */
import type { Schedule } from "../schedule/schedule.js";

/** Runs that shrinking may take: a schedule of thousands of differences does not get as short as it could. */
const BUDGET = 500;

/**
 * Leaves out parts, larger ones first (delta debugging), then moves what is left to earlier choices and smaller possibilities.
 * @param fails runs a schedule; true when it breaks the rule
 */
export async function shrink(schedule: Schedule, fails: (schedule: Schedule) => Promise<boolean>): Promise<Schedule> {
  let entries = [...schedule];
  let left = BUDGET;
  const breaks = (tried: readonly [number, number][]) => (left-- > 0 ? fails(new Map(tried)) : Promise.resolve(false));
  for (let size = Math.ceil(entries.length / 2); size >= 1 && left > 0; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < entries.length; ) {
      const without = entries.toSpliced(at, size);
      if (await breaks(without)) entries = without;
      else at += size;
    }
  }
  return new Map(await lower(entries, breaks));
}

async function lower(
  entries: readonly [number, number][],
  breaks: (entries: readonly [number, number][]) => Promise<boolean>,
): Promise<readonly [number, number][]> {
  let best = [...entries];
  for (let i = 0; i < best.length; i++) {
    const [at, option] = best[i];
    for (let smaller = 1; smaller < option; smaller++) {
      const tried = best.with(i, [at, smaller]);
      if (!(await breaks(tried))) continue;
      best = tried;
      break;
    }
  }
  return best;
}
