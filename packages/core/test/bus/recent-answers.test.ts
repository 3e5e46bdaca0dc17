import { expect, it } from "vitest";
import { RecentAnswers, recentSlot } from "../../src/index.js";

it("forgets every answer that was given, and again those that are given later", () => {
  const answers = new RecentAnswers(() => ({ sid: -1, given: false }));
  const give = (sid: number) => {
    const answer = answers.slots[recentSlot(sid, 1)];
    answer.sid = sid;
    answers.give(answer);
  };
  const count = () => answers.slots.filter(({ sid }) => sid >= 0).length;
  // More requesters than slots: some take the place of others.
  for (let round = 0; round < 2; round++) {
    for (let sid = 0; sid < 1000; sid++) give(sid);
    expect(count()).toBeGreaterThan(32);
    answers.forget();
    expect(count()).toBe(0);
  }
});
