/** A replay as headings, tables and lists, for whoever writes text or Markdown of them. */
import { ACCESS_PATTERNS } from "./access-pattern.js";
import type { AccessSummary, Addresses, ConfigurationReport, Replay, Summary, Tables } from "./report.js";

export interface Section {
  readonly title: string | undefined;
  /** Of the first `left` columns words, of the others figures. */
  readonly table?: { readonly head: readonly string[]; readonly left: number; readonly rows: readonly string[][] };
  readonly list?: readonly string[];
}

export function sections(replay: Replay): readonly Section[] {
  return [
    { title: undefined, list: summaryLines(replay) },
    { title: "by phase", table: phaseTable(replay) },
    ...(replay.namedSpaces > 0 ? [{ title: "by device", table: deviceTable(replay) }] : []),
    { title: "IOVAs when the most pages are mapped", table: addressTable(replay) },
    { title: "commands", list: replay.configurations.map(commandLine) },
    ...(replay.access ? [{ title: "caches and table reads", list: replay.configurations.map(cacheLine) }] : []),
    { title: "modelled time = counts x figures", list: figureLines(replay) },
  ];
}

function summaryLines(replay: Replay): string[] {
  const { events, spaces, namedSpaces, ambiguousUnmaps, unknownUnmaps, malformedLines, access, configurations } =
    replay;
  const named = namedSpaces > 0 ? `, ${namedSpaces} with a device's name` : "";
  const lines = [`${events} events, ${spaces} address spaces${named}`];
  if (ambiguousUnmaps > 0)
    lines.push(
      `${ambiguousUnmaps} unmaps could be of several address spaces (the events name none): the first was taken`,
    );
  if (unknownUnmaps > 0)
    lines.push(`${unknownUnmaps} unmaps are of mappings from before the trace: counted, not replayed`);
  if (malformedLines > 0)
    lines.push(`${malformedLines} lines of maps or unmaps are cut, garbled or contradict themselves: left out`);
  for (const { label, total } of configurations) {
    if (total.refusedMaps > 0) lines.push(`${label} refused ${total.refusedMaps} maps`);
    if (total.access && total.access.faults > 0) lines.push(`${label}: ${total.access.faults} accesses faulted`);
  }
  lines.push(
    access === null
      ? "the events hold no device accesses: nothing is said about IOTLB hits (--access assumes some)"
      : `assumed accesses, ${access.pattern}${access.pattern === "random" ? ` (seed ${access.seed})` : ""}: ${ACCESS_PATTERNS[access.pattern]}`,
  );
  return lines;
}

/** Columns that every table of counts has, after those that say whose they are. */
function countHead({ access }: Replay): readonly string[] {
  return ["maps", "unmaps", "invalidations", "waits", "CPU ms", ...(access ? ["IOTLB hits", "reads/access"] : [])];
}

function countCells(summary: Summary): string[] {
  const { maps, unmaps, invalidations, waits, modelledNanoseconds, access } = summary;
  const cells = [maps, unmaps, invalidations, waits].map(String);
  return [...cells, (modelledNanoseconds / 1e6).toFixed(3), ...(access ? accessCells(access) : [])];
}

function accessCells({ iotlbHitRate, readsPerAccess }: AccessSummary): string[] {
  return [percent(iotlbHitRate), readsPerAccess.toFixed(2)];
}

function percent(share: number | null): string {
  return share === null ? "-" : `${(100 * share).toFixed(1)}%`;
}

function phaseTable(replay: Replay): Section["table"] {
  const { configurations } = replay;
  const row = (phase: string, label: string, counts: Summary & Tables) => [
    phase,
    label,
    ...countCells(counts),
    String(counts.peakTableBytes / 1024),
    String(counts.tableBytes / 1024),
  ];
  const phases = configurations[0].phases.flatMap(({ name }, n) =>
    configurations.map(({ label, phases }) => row(name, label, phases[n])),
  );
  return {
    head: ["phase", "backend", ...countHead(replay), "peak table KiB", "table KiB"],
    left: 2,
    rows: [...phases, ...configurations.map(({ label, total }) => row("total", label, total))],
  };
}

function deviceTable(replay: Replay): Section["table"] {
  const { configurations } = replay;
  return {
    head: ["device", "backend", ...countHead(replay)],
    left: 2,
    rows: configurations[0].devices.flatMap(({ device }, n) =>
      configurations.map(({ label, devices }) => [device, label, ...countCells(devices[n])]),
    ),
  };
}

function addressTable({ fragmentation, namedSpaces }: Replay): Section["table"] {
  const row = (name: string, { mappedBytes, extents, leafFill }: Addresses) => [
    name,
    String(mappedBytes / 1024),
    String(extents),
    percent(leafFill),
  ];
  return {
    head: ["", "mapped KiB", "extents", "leaf tables used"],
    left: 1,
    rows: [
      ...fragmentation.phases.map((phase) => row(phase.name, phase)),
      ...(namedSpaces > 0 ? fragmentation.devices.map((device) => row(device.device, device)) : []),
      row("total", fragmentation.total),
    ],
  };
}

function named(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .map(([name, count]) => `${name} ${count}`)
    .join(", ");
}

function commandLine({ label, total }: ConfigurationReport): string {
  return `${label}: ${named(total.commands) || "none"}`;
}

function cacheLine({ label, total: { access } }: ConfigurationReport): string {
  if (access === null) return `${label}: no accesses`;
  const { accesses, hits, misses, tableReads, modelledNanoseconds } = access;
  const caches = [...new Set([...Object.keys(hits), ...Object.keys(misses)])].map((cache) => {
    const hit = hits[cache] ?? 0;
    const lookups = hit + (misses[cache] ?? 0);
    return `${cache} ${hit} of ${lookups} (${percent(hit / lookups)})`;
  });
  return [
    `${label}: ${accesses} accesses`,
    `hits ${caches.join(", ") || "none"}`,
    `table reads ${named(tableReads) || "none"}`,
    `modelled ${(modelledNanoseconds / 1e6).toFixed(3)} ms`,
  ].join("; ");
}

/** One of each backend, whatever its columns. */
function figureLines({ configurations }: Replay): string[] {
  const lines = configurations.flatMap(({ backend, figures }) =>
    figures.map(
      ({ what, nanoseconds, origin, source }) =>
        `${backend.split(":")[0]} ${what} ${nanoseconds} ns (${origin}: ${source})`,
    ),
  );
  return [...new Set(lines)];
}
