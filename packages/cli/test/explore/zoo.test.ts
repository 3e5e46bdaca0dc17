/** Every known bug of the zoo is found with its variant on, by few schedules; `iommukit explore --all` looks longer. */
import { KNOWN_VARIANTS } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { merged } from "../../src/explore/merge.js";
import { SCENARIOS } from "../../src/explore/scenarios/index.js";
import { perform, type SearchOptions, show, type Task } from "../../src/explore/task.js";
import { rowResult, zooRows } from "../../src/explore/zoo.js";

const SEARCHES: readonly SearchOptions[] = [
  { kind: "exhaustive", bound: 1 },
  { kind: "random", seed: 1, runs: 500 },
];

const rows = zooRows(SEARCHES);
const nameOf = ({ variant, tasks: [{ scenario, backend }] }: (typeof rows)[number]) =>
  [variant ?? "no bug", scenario, backend] as const;

describe("the zoo", () => {
  it.each(rows.filter(({ variant }) => variant !== undefined).map((row) => [...nameOf(row), row] as const))(
    "finds %s in %s behind %s",
    { timeout: 60_000 },
    async (_variant, _scenario, _backend, row) => {
      const results = [];
      for (const task of row.tasks) {
        results.push(await perform(task));
        if (results.at(-1)?.discovery) break;
      }
      const { right, schedule } = rowResult(row, results);
      expect(right).toBe(true);
      // The schedule alone shows it again, on a machine that nobody has used.
      const { result } = await show(row.tasks[0], schedule ?? "");
      expect(result.findings).not.toEqual([]);
    },
  );

  it.each(rows.filter(({ variant }) => variant !== undefined).map((row) => [...nameOf(row), row] as const))(
    "finds %s in %s behind %s when equal runs are left out",
    { timeout: 60_000 },
    async (_variant, _scenario, _backend, row) => {
      const search: SearchOptions = { kind: "exhaustive", bound: 2, prune: true };
      expect((await perform({ ...row.tasks[0], search })).discovery).toBeDefined();
    },
  );

  it.each(rows.filter(({ variant }) => variant === undefined).map((row) => [...nameOf(row), row] as const))(
    "finds nothing (%s) in %s behind %s",
    { timeout: 60_000 },
    async (_variant, _scenario, _backend, row) => {
      const task: Task = { ...row.tasks[0], search: { kind: "random", seed: 7, runs: 25 } };
      expect((await perform(task)).discovery).toBeUndefined();
    },
  );

  it("shows every known bug", () => {
    const shown = SCENARIOS.flatMap(({ finds }) => Object.keys(finds).flatMap((bugs) => bugs.split("+")));
    expect([...new Set(shown)].sort()).toEqual(Object.keys(KNOWN_VARIANTS).sort());
  });

  it("shrinks what a random walk has found to the fewest switches", async () => {
    const search = { kind: "random", seed: 1, runs: 100 } as const;
    const shard = { index: 1, of: 1 };
    const { discovery } = await perform({ scenario: "exit-detach", backend: "vtd", variants: ["S-2"], search, shard });
    expect(discovery?.found).toBeGreaterThan(10);
    expect(discovery?.shrunk).toBe(1);
  });
});

describe("a campaign in parts", () => {
  it("tries what the whole tries", async () => {
    const task = (index: number, of: number): Task => ({
      scenario: "bind-exit-unbind",
      backend: "vtd",
      variants: [],
      search: { kind: "exhaustive", bound: 1 },
      shard: { index, of },
    });
    const whole = await perform(task(1, 1));
    const parts = [await perform(task(1, 3)), await perform(task(2, 3)), await perform(task(3, 3))];
    const [together] = merged(parts.map((part) => [part]));
    // Each part runs the default schedule itself.
    expect(together.schedules).toBe(whole.schedules + 2);
    expect(together.complete).toBe(true);
  });
});
