/**
 * A schedule is what differs from the default one: at which choices something else than possibility 0 happened. Choices are
 * numbered from 0 over one run. As text "17:1,42:2": at choice 17 possibility 1, at choice 42 possibility 2. The empty text
 * is the default schedule.
 */
export type Schedule = ReadonlyMap<number, number>;

const PART = /^(\d+):([1-9]\d*)$/;

/** @throws RangeError for what is no schedule */
export function parseSchedule(text: string): Schedule {
  const schedule = new Map<number, number>();
  let last = -1;
  for (const part of text === "" ? [] : text.split(",")) {
    const [, at, option] = PART.exec(part) ?? [];
    if (at === undefined || Number(at) <= last)
      throw new RangeError(`"${part}" in schedule "${text}": wanted CHOICE:POSSIBILITY with rising choices`);
    last = Number(at);
    schedule.set(last, Number(option));
  }
  return schedule;
}

/** "17:1,42:2"; `parseSchedule` is the reverse. */
export function formatSchedule(schedule: Schedule): string {
  return [...schedule].map(([at, option]) => `${at}:${option}`).join(",");
}
