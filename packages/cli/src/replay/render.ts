/** A replay as text, as Markdown, as JSON. */
import { COSTS, modelled } from "./cost-model.js";
import { invalidations, type ReplayCounts, waits } from "./counts.js";
import type { Replay } from "./replay.js";

const HEAD = ["phase", "backend", "maps", "unmaps", "invalidations", "waits", "table KiB", "modelled ms"];

function row(phase: string, backend: string, counts: ReplayCounts): string[] {
  const time = modelled(backend, counts);
  return [
    phase,
    backend,
    String(counts.maps),
    String(counts.unmaps),
    String(invalidations(counts)),
    String(waits(counts)),
    String(counts.tableBytes / 1024),
    time === undefined ? "-" : (time / 1e6).toFixed(3),
  ];
}

function rows({ backends }: Replay): string[][] {
  const phases = backends[0].phases.flatMap(({ name }, n) =>
    backends.map((backend) => row(name, backend.name, backend.phases[n].counts)),
  );
  return [...phases, ...backends.map(({ name, total }) => row("total", name, total))];
}

function header(replay: Replay): string[] {
  const { mode, events, spaces, ambiguousUnmaps, unknownUnmaps } = replay;
  const lines = [`${events} events, ${mode}, ${spaces} address spaces`];
  if (ambiguousUnmaps > 0)
    lines.push(
      `${ambiguousUnmaps} unmaps could be of several address spaces (the events name none): the first was taken`,
    );
  if (unknownUnmaps > 0)
    lines.push(`${unknownUnmaps} unmaps are of mappings from before the trace: counted, not replayed`);
  lines.push("the events hold no device accesses: nothing is said about IOTLB hits");
  return lines;
}

function commandLines({ backends }: Replay): string[] {
  return backends.map(
    ({ name, total: { commands } }) =>
      `${name}: ${
        Object.entries(commands)
          .map(([command, count]) => `${command} ${count}`)
          .join(", ") || "no commands"
      }`,
  );
}

function costLines({ backends }: Replay): string[] {
  return backends.flatMap(({ name }) =>
    COSTS[name].map(
      ({ what, nanoseconds, origin, source }) => `${name} ${what} ${nanoseconds} ns (${origin}: ${source})`,
    ),
  );
}

export function replayText(replay: Replay): string {
  const table = [HEAD, ...rows(replay)];
  const widths = HEAD.map((_, column) => Math.max(...table.map((cells) => cells[column].length)));
  const lines = table.map((cells) =>
    cells
      .map((cell, n) => (n < 2 ? cell.padEnd(widths[n]) : cell.padStart(widths[n])))
      .join("  ")
      .trimEnd(),
  );
  lines.splice(1, 0, "-".repeat(lines[0].length));
  return [
    ...header(replay),
    "",
    ...lines,
    "",
    ...commandLines(replay),
    "",
    "modelled time = counts x figures:",
    ...costLines(replay).map((line) => `  ${line}`),
  ].join("\n");
}

export function replayMarkdown(replay: Replay): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  const rule = `| --- | --- |${" ---: |".repeat(HEAD.length - 2)}`;
  const list = (items: readonly string[]) => items.map((item) => `- ${item}`);
  return [
    ...header(replay),
    "",
    line(HEAD),
    rule,
    ...rows(replay).map(line),
    "",
    ...list(commandLines(replay)),
    "",
    ...list(costLines(replay)),
  ].join("\n");
}

export function replayJson(replay: Replay): string {
  const costs = Object.fromEntries(
    replay.backends.map(({ name }) => [
      name,
      COSTS[name].map(({ what, nanoseconds, origin, source }) => ({ what, nanoseconds, origin, source })),
    ]),
  );
  return JSON.stringify(
    { ...replay, costs },
    (_key, value: unknown) => (typeof value === "bigint" ? `0x${value.toString(16)}` : value),
    2,
  );
}
