/** Our driver on our unit, fed with a kernel's calls; notes the descriptors that the unit consumes. */
import {
  createPlatform,
  Device,
  type IommuDomain,
  IommuProt,
  iommuMap,
  iommuMapNosync,
  iommuUnmapFast,
  isErrno,
  newGather,
  type Platform,
  parseBdf,
} from "@iommukit/core";
import { FakePciFunction } from "@iommukit/core/testing";
import { CAP, qemu11Q35, type VtdDriver, type VtdPreset, vtd } from "@iommukit/iommu-vtd";
import type { Mapping, QiDescriptor, Range, Recording } from "./steps.js";
import { lastOf } from "./thread.js";

const READ_WRITE = IommuProt.READ | IommuProt.WRITE;
/** Longer than any trace: the recorded machine's timer says when a flush queue is flushed. */
const NEVER = 2 ** 52;
const PAGE = 4096n;

/** The unit of the recorded machines: QEMU 7.2, which does not invalidate when the root table is set. */
function recordedUnit(cachingMode: boolean): VtdPreset {
  const bit = (field: { readonly lsb: number }) => 1n << BigInt(field.lsb);
  const cap = (qemu11Q35.cap & ~bit(CAP.ESRTPS)) | (cachingMode ? bit(CAP.CM) : 0n);
  return { ...qemu11Q35, cap };
}

interface Domain {
  readonly domain: IommuDomain;
  /** By requester id. */
  readonly devices: Map<number, Device>;
  /** Descriptors that our flush queue queued on its own, for flushes that the trace has yet to show. */
  readonly early: QiDescriptor[][];
}

export class Player {
  readonly #domains = new Map<number, Domain>();
  /** Our domain-ids by the kernel's, and back. */
  readonly #ours = new Map<number, number>([[0, 0]]);
  readonly #theirs = new Map<number, number>([[0, 0]]);
  #descriptors: QiDescriptor[] = [];
  #cpu = 0;
  #standIns = 0;
  #platform: Platform | undefined;

  static async start({ lazy, cachingMode, cpus }: Recording): Promise<{ player: Player; boot: QiDescriptor[] }> {
    const player = new Player();
    const flushQueue = { timeout: NEVER, cpus, cpu: () => player.#cpu };
    const unit = vtd({ preset: recordedUnit(cachingMode), strict: !lazy, flushQueue });
    const platform = await createPlatform({ iommus: [] });
    player.#platform = platform;
    platform.trace.on("command:consumed", ({ command, words }) => {
      if (command === "inv_wait_dsc") return;
      const quad = (at: number) => (BigInt(words[at + 1]) << 32n) | BigInt(words[at]);
      player.#descriptors.push([quad(0), quad(2)]);
    });
    await platform.run(() => platform.addIommu(unit));
    return { player, boot: player.take() };
  }

  get #machine(): Platform {
    if (!this.#platform) throw new Error("the player has not been started");
    return this.#platform;
  }

  get #ops(): VtdDriver {
    return this.#machine.iommus[0].ops as VtdDriver;
  }

  /** Descriptors since the last call, with the kernel's domain-ids. */
  take(): QiDescriptor[] {
    return this.#descriptors.splice(0).map(([qw0, qw1]) => {
      const did = Number((qw0 >> 16n) & 0xffffn);
      const theirs = this.#theirs.get(did) ?? did;
      return [(qw0 & ~0xffff_0000n) | (BigInt(theirs) << 16n), qw1];
    });
  }

  /** Plays everything that `play` does as one thread of the machine. */
  run(play: () => Promise<void>): Promise<void> {
    return this.#machine.run(play);
  }

  /** Taken from the domain that it is on, should the trace not have shown that. */
  async attach(bdf: string, did: number): Promise<void> {
    const { rid } = parseBdf(bdf);
    for (const [other, { devices }] of this.#domains) if (devices.has(rid)) await this.detach(bdf, other);
    this.take();
    const known = this.#domains.get(did);
    if (known) await this.#join(known, bdf);
    else await this.#newDomain(did, bdf);
  }

  /** Brought to the domain first, should the trace not have shown that. */
  async detach(bdf: string, did: number): Promise<void> {
    const { rid } = parseBdf(bdf);
    if (!this.#domains.get(did)?.devices.has(rid)) await this.attach(bdf, did);
    this.take();
    const { domain, devices } = await this.#domain(did);
    const dev = devices.get(rid);
    if (!dev) return;
    await this.#ops.detachDev(domain, dev);
    await this.#ops.releaseDevice(dev);
    devices.delete(rid);
    if (devices.size === 0) this.#domains.delete(did);
  }

  async #join({ domain, devices }: Domain, bdf: string): Promise<void> {
    const { rid } = parseBdf(bdf);
    const dev = await this.#probe(bdf);
    await this.#ops.attachDev(domain, dev);
    devices.set(rid, dev);
  }

  async #probe(bdf: string): Promise<Device> {
    const dev = new Device(bdf, parseBdf(bdf).rid, new FakePciFunction(bdf));
    dev.iommu = this.#machine.iommus[0];
    await this.#ops.probeDevice(dev);
    return dev;
  }

  /** The domain with the kernel's domain-id; one that the trace did not show being attached gets a device that stands in. */
  async #domain(did: number): Promise<Domain> {
    const known = this.#domains.get(did);
    if (known) return known;
    const devfn = this.#standIns++;
    const bdf = `0000:ff:${(devfn >> 3).toString(16).padStart(2, "0")}.${devfn & 7}`;
    const domain = await this.#newDomain(did, bdf);
    this.take();
    return domain;
  }

  async #newDomain(did: number, bdf: string): Promise<Domain> {
    const dev = await this.#probe(bdf);
    const domain = this.#ops.domainAlloc("dma", dev);
    await this.#ops.attachDev(domain, dev);
    const entry: Domain = { domain, devices: new Map([[parseBdf(bdf).rid, dev]]), early: [] };
    this.#domains.set(did, entry);
    const ours = (domain as IommuDomain & { readonly did: number }).did;
    this.#ours.set(did, ours);
    this.#theirs.set(ours, did);
    return entry;
  }

  /** @returns false when something had to be taken away first, whose unmap the trace does not show in that domain */
  async map(parts: readonly Mapping[], did: number): Promise<boolean> {
    const { domain } = await this.#domain(did);
    const [{ iova }] = parts;
    const end = parts.reduce((end, part) => (lastOf(part) >= end ? lastOf(part) + 1n : end), iova);
    const free = await this.#write(domain, parts);
    if (!free) {
      for (const part of parts) await this.#clear(domain, part);
      this.take();
      await this.#write(domain, parts);
    }
    await this.#ops.iotlbSyncMap(domain, iova, end - iova);
    return free;
  }

  /** @returns false when something else is there */
  async #write(domain: IommuDomain, parts: readonly Mapping[]): Promise<boolean> {
    try {
      for (const { iova, pa, size } of parts) await iommuMapNosync(domain, iova, pa, size, READ_WRITE);
      return true;
    } catch (error) {
      if (!isErrno(error, "EEXIST")) throw error;
      return false;
    }
  }

  async #clear(domain: IommuDomain, { iova, size }: Range): Promise<void> {
    const gather = newGather();
    for (let at = iova; at < iova + size; at += PAGE)
      if (this.#ops.iovaToPhys(domain, at) !== undefined) iommuUnmapFast(domain, at, PAGE, gather);
    await this.#ops.iotlbSync(domain, gather);
  }

  /**
   * Pages that are not mapped are mapped first.
   * @param deferred it may wait for the flush queue @returns how many those were
   */
  async unmap(parts: readonly Range[], did: number, cpu: number, deferred: boolean): Promise<number> {
    const { domain } = await this.#domain(did);
    this.#cpu = cpu;
    const gather = newGather(deferred);
    let filled = 0;
    for (const { iova, size } of parts) {
      for (let at = iova; at < iova + size; ) {
        at += iommuUnmapFast(domain, at, iova + size - at, gather);
        if (at >= iova + size) break;
        await iommuMap(domain, at, 0, PAGE, READ_WRITE);
        filled++;
      }
    }
    this.take();
    await this.#ops.iotlbSync(domain, gather);
    return filled;
  }

  /** Lazy: what our flush queue queued by itself at an unmap is kept for the flush that the trace shows next. */
  keepEarly(did: number): void {
    const descriptors = this.take();
    if (descriptors.length > 0) this.#domains.get(did)?.early.push(descriptors);
  }

  async flush(did: number): Promise<QiDescriptor[]> {
    const { domain, early } = await this.#domain(did);
    this.take();
    const done = early.shift();
    if (done) return done;
    const { flushQueue } = domain as IommuDomain & { readonly flushQueue?: { drain(): Promise<void> } };
    await (flushQueue?.drain() ?? this.#ops.flushIotlbAll(domain));
    return this.take();
  }

  /** Flushes of our flush queues that the trace never showed. */
  unseen(): number {
    return [...this.#domains.values()].reduce((sum, { early }) => sum + early.length, 0);
  }
}
