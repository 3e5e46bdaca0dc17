/**
 * Replays the map and unmap calls of a real kernel's trace on our driver and compares, call by call, the invalidation
 * descriptors that it queues with the `qi_submit` lines that Linux recorded: type, granularity, domain-id, address, mask, hint.
 */
import { hex } from "@iommukit/core";
import type { LoadedFile } from "../load.js";
import { assignDomains } from "../qi-trace/domains.js";
import { parseFtrace } from "../qi-trace/ftrace.js";
import { Player } from "../qi-trace/player.js";
import {
  type MapCall,
  type QiDescriptor,
  Recorder,
  type Recording,
  type Step,
  type UnmapCall,
} from "../qi-trace/recording.js";
import type { Report } from "../report.js";

export const holds = "iommu:map and iommu:unmap events";

export function recognises({ records }: LoadedFile): boolean {
  return records.some((line) => typeof line === "string" && parseFtrace([line])[0]?.name === "unmap");
}

export async function run(files: LoadedFile[], report: Report): Promise<void> {
  for (const file of files) {
    const recording = Recorder.read(parseFtrace(file.records as string[]));
    assignDomains(recording);
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
  /** Maps that could not be made when Linux made them, by IOVA. */
  readonly #late = new Map<bigint, MapCall[]>();

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
        if (step.did === undefined) return;
        await player.attach(step.device, step.did);
        return this.#compare(step, player.take());
      case "detach":
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

  async #map(step: MapCall): Promise<void> {
    if (step.did === undefined) {
      this.report.notApplicable("mapping that the trace never takes away: its domain is not known");
      return;
    }
    if (await this.player.map(step)) this.#compare(step, this.player.take());
    else this.#late.set(step.iova, [...(this.#late.get(step.iova) ?? []), step]);
  }

  async #unmap(step: UnmapCall): Promise<void> {
    if (step.did === undefined) {
      this.report.notApplicable("unmap that nothing was queued for before the trace ends");
      return;
    }
    await this.#mapLate(step);
    const unmapped = await this.player.unmap(step);
    if (unmapped !== step.size)
      this.report.fail(`${this.#where(step)}: unmapped ${hex(unmapped)} bytes, Linux ${hex(step.size)}`);
    else if (this.recording.lazy && step.expected.length === 0) this.#lazy(step.did);
    else this.#compare(step, this.player.take());
  }

  /** A lazy unmap queues nothing, unless it fills its CPU's ring: then a flush of the domain is what the trace shows next. */
  #lazy(did: number): void {
    this.player.keepEarly(did);
    this.report.pass();
  }

  /** Maps whose place was taken when Linux made them, and what the trace does not show or showed for another domain. */
  async #mapLate(step: UnmapCall): Promise<void> {
    for (const map of this.#late.get(step.iova)?.splice(0) ?? []) await this.player.map(map);
    const filled = await this.player.fill(step);
    if (filled > 0)
      this.report.notApplicable("unmap whose mapping the trace does not show in that domain: mapped just before it");
    this.player.take();
  }

  #compare(step: Step, queued: QiDescriptor[]): void {
    const ours = this.recording.hints ? queued : queued.map(withoutHint);
    if (text(ours) === text(step.expected)) this.report.pass();
    else this.report.fail(`${this.#where(step)}: queues ${text(ours)}, Linux ${text(step.expected)}`);
  }

  #where(step: Step): string {
    const range = "iova" in step ? ` ${hex(step.iova)}+${hex(step.size)}` : "";
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

function text(descriptors: readonly QiDescriptor[]): string {
  return descriptors.map(([qw0, qw1]) => `${hex(qw0)} ${hex(qw1)}`).join(", ") || "nothing";
}

/** IH, bit 6 of the address of an invalidation of pages (VT-d 6.5.2.3). */
function withoutHint([qw0, qw1]: QiDescriptor): QiDescriptor {
  return [qw0, qw1 & ~0x40n];
}
