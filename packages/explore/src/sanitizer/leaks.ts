/** Leaks: what a run takes, it gives back. */
import { leakCheck } from "@iommukit/core/testing";
import type { CheckerFactory } from "./checker.js";

export const leaks: CheckerFactory = ({ platform, report }) => {
  let check = leakCheck(platform);
  return {
    listeners: {},
    begin() {
      check = leakCheck(platform);
    },
    end() {
      for (const what of check()) report({ rule: "leak", what: `left behind: ${what}` });
    },
  };
};
