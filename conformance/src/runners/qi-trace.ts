/**
 * Replays the map and unmap calls of a real kernel's trace on our driver and compares, call by call, the invalidation
 * descriptors that it queues with the `qi_submit` lines that Linux recorded: type, granularity, domain-id, address, mask, hint.
 */
import { hex } from "@iommukit/core";
import type { LoadedFile } from "../load.js";
import { pagesOf, unaligned } from "../qi-trace/descriptor.js";
import { assignDomains } from "../qi-trace/domains.js";
import { isWhole, parseFtrace } from "../qi-trace/ftrace.js";
import { unlike } from "../qi-trace/manner.js";
import { Player } from "../qi-trace/player.js";
import { Recorder } from "../qi-trace/recorder.js";
import type { MapStep, QiDescriptor, Recording, Step, UnmapStep } from "../qi-trace/steps.js";
import type { Report } from "../report.js";
import { UsageError } from "../tool.js";

export const holds = "iommu:map or iommu:unmap events with the qi_submit lines for them";

export function recognises({ records }: LoadedFile): boolean {
  const has = (event: RegExp) => records.some((line) => typeof line === "string" && event.test(line));
  return has(/:\s+(?:\w+:)?(?:un)?map:\s+IOMMU:/) && has(/:\s+(?:\w+:)?qi_submit:/);
}

export async function run(files: LoadedFile[], report: Report): Promise<void> {
  for (const file of files) {
    const lines = file.records as string[];
    const events = parseFtrace(lines);
    const reason = unlike(events);
    if (reason) throw new UsageError(`${file.path} ${reason}`);
    const recording = Recorder.read(events);
    const contradictions = assignDomains(recording);
    for (const { map, unmap } of isWhole(lines, events) ? contradictions : [])
      report.fail(
        `${file.name}:${unmap.line}: unmap from domain-id ${unmap.did} of what line ${map.line} maps in ${map.did}`,
      );
    await replay(file.name, recording, report);
  }
}

async function replay(name: string, recording: Recording, report: Report): Promise<void> {
  const { player, boot } = await Player.start(recording);
  const check = new Comparison(name, recording, player, boot, report);
  await player.run(async () => {
    for (const step of recording.steps) await check.step(step);
  });
  check.end();
}

class Comparison {
  constructor(
    private readonly name: string,
    private readonly recording: Recording,
    private readonly player: Player,
    private readonly boot: QiDescriptor[],
    private readonly report: Report,
  ) {}

  async step(step: Step): Promise<void> {
    try {
      await this.#play(step);
    } catch (error) {
      this.report.fail(`${this.#where(step)}: ${(error as Error).message}`);
    }
  }

  async #play(step: Step): Promise<void> {
    const { player } = this;
    switch (step.kind) {
      case "boot":
        return this.#compare(step, this.boot);
      case "attach":
        if (step.did === undefined || step.device === "")
          return this.report.notApplicable("device that comes to a domain that the trace does not tell");
        await player.attach(step.device, step.did);
        return this.#compare(step, player.take());
      case "detach":
        if (step.device === "")
          return this.report.notApplicable("device that leaves a domain, but the trace does not name it");
        await player.detach(step.device, step.did);
        return this.#compare(step, player.take());
      case "map":
        return this.#map(step);
      case "unmap":
        return this.#unmap(step);
      case "flush":
        return this.#compare(step, await player.flush(step.did));
    }
  }

  async #map(step: MapStep): Promise<void> {
    if (step.did === undefined) return this.#somewhere(step, this.recording.cachingMode);
    if (!(await this.player.map(step.parts, step.did)))
      this.report.notApplicable(
        "mapping where an earlier one of its domain still is: that one was taken away just before it",
      );
    this.#compare(step, this.player.take());
  }

  async #unmap(step: UnmapStep): Promise<void> {
    const { lazy } = this.recording;
    if (step.did === undefined) return this.#somewhere(step, !lazy);
    // A lazy kernel does not put off every unmap: 7.3 flushes what it unlinks of an IOVA at once.
    const deferred = lazy && !step.own;
    const filled = await this.player.unmap(step.parts, step.did, step.cpu, deferred);
    if (filled > 0)
      this.report.notApplicable("unmap whose mapping the trace does not show in that domain: mapped just before it");
    if (deferred) this.#deferred(step.did);
    else this.#compare(step, this.player.take());
  }

  /** Nothing was queued for it. @param wrong in whatever domain it is */
  #somewhere(step: MapStep | UnmapStep, wrong: boolean): void {
    if (!wrong) this.report.notApplicable(`${step.kind} in a domain that the trace does not tell`);
    else if (step.doubt) this.report.notApplicable(step.doubt);
    else this.report.fail(`${this.#where(step)}: Linux queues nothing`);
  }

  /** A lazy unmap queues nothing, unless it fills its CPU's ring: then a flush of the domain is what the trace shows next. */
  #deferred(did: number): void {
    this.player.keepEarly(did);
    this.report.pass();
  }

  #compare(step: Step, queued: QiDescriptor[]): void {
    const ours = this.recording.hints ? queued : queued.map((one) => unaligned(one, startOf(step)));
    if (text(ours) === text(step.expected)) this.report.pass();
    else if (step.doubt && mayBeMore(step.expected, ours)) this.report.notApplicable(step.doubt);
    else this.report.fail(`${this.#where(step)}: queues ${text(ours)}, Linux ${text(step.expected)}`);
  }

  #where(step: Step): string {
    const range =
      "parts" in step ? ` ${step.parts.map(({ iova, size }) => `${hex(iova)}+${hex(size)}`).join(", ")}` : "";
    const device = "device" in step ? ` ${step.device}` : "";
    return `${this.name}:${step.line}: ${step.kind}${range}${device}`;
  }

  end(): void {
    const { leftOut, orphans, unreadable } = this.recording;
    for (const { line, text } of unreadable) this.report.fail(`${this.name}:${line}: cannot be read: ${text}`);
    for (const [what, count] of leftOut) for (let i = 0; i < count; i++) this.report.notApplicable(what);
    for (const { line, descriptor } of orphans)
      this.report.fail(`${this.name}:${line}: ${text([descriptor])} belongs to no call`);
    const unseen = this.player.unseen();
    if (unseen > 0) this.report.fail(`${this.name}: our flush queues flushed ${unseen} times when Linux's did not`);
  }
}

/** What Linux queued is some of ours, or is for pages around what the file shows of the call. */
function mayBeMore(linux: readonly QiDescriptor[], ours: readonly QiDescriptor[]): boolean {
  if (linux.length < ours.length) return linux.every((one) => ours.some((other) => text([other]) === text([one])));
  const shown = linux.length === 1 && ours.length === 1 && pagesOf(ours[0]);
  if (!shown) return false;
  const pages = pagesOf(linux[0]);
  if (!pages) return true;
  const larger = pages.end - pages.start > shown.end - shown.start;
  const earlier = linux[0][1] >> 12n < ours[0][1] >> 12n;
  return pages.start <= shown.start && pages.end >= shown.end && (larger || earlier);
}

function text(descriptors: readonly QiDescriptor[]): string {
  return descriptors.map(([qw0, qw1]) => `${hex(qw0)} ${hex(qw1)}`).join(", ") || "nothing";
}

/** Where the pages of maps and unmaps begin; nothing else is invalidated by page. */
function startOf(step: Step): bigint {
  return "parts" in step ? step.parts[0].iova : 0n;
}
