/** I-4: pages are charged while they are pinned. At rest every process that is left has the charge that it had before. */
import type { CheckerFactory } from "./checker.js";

export const accounting: CheckerFactory = ({ platform, report }) => {
  const before = new Map<object, number>();
  return {
    listeners: {
      "ioctl:returned": ({ pid, request }) => {
        const lockedVm = platform.kernel.tasks.get(pid)?.mm?.lockedVm ?? 0;
        if (lockedVm < 0)
          report({
            rule: "I-4",
            what: `pid ${pid} is charged for ${lockedVm} pages after ioctl 0x${request.toString(16)}`,
          });
      },
    },
    begin() {
      before.clear();
      for (const { mm } of platform.kernel.tasks.values()) if (mm) before.set(mm, mm.lockedVm);
    },
    end() {
      for (const { mm } of platform.kernel.tasks.values()) {
        if (!mm) continue;
        const more = mm.lockedVm - (before.get(mm) ?? 0);
        if (more === 0) continue;
        const should = "who unpins a page uncharges it, in the process that was charged";
        report({ rule: "I-4", what: `${mm.owner} is charged for ${more} pages more than before`, should });
      }
    },
  };
};
