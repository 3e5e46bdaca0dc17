/** Our driver on our unit, fed with a kernel's calls; notes the descriptors that the unit consumes. */
import {
  createPlatform,
  Device,
  type IommuDomain,
  IommuProt,
  iommuMap,
  iommuUnmapFast,
  isErrno,
  newGather,
  type Platform,
  parseBdf,
} from "@iommukit/core";
import { FakePciFunction } from "@iommukit/core/testing";
import { CAP, qemu11Q35, type VtdDriver, type VtdPreset, vtd } from "@iommukit/iommu-vtd";
import type { MapCall, QiDescriptor, Recording, UnmapCall } from "./recording.js";

const READ_WRITE = IommuProt.READ | IommuProt.WRITE;
/** Longer than any trace: the recorded machine's timer says when a flush queue is flushed. */
const NEVER = 2 ** 52;

/** The unit of the recorded machines: QEMU 7.2, which does not invalidate when the root table is set. */
function recordedUnit(cachingMode: boolean): VtdPreset {
  const bit = (field: { readonly lsb: number }) => 1n << BigInt(field.lsb);
  const cap = (qemu11Q35.cap & ~bit(CAP.ESRTPS)) | (cachingMode ? bit(CAP.CM) : 0n);
  return { ...qemu11Q35, cap };
}

interface Domain {
  readonly domain: IommuDomain;
  readonly devices: Map<string, Device>;
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
  #nextStandIn = 0;
  #platform: Platform | undefined;

  private constructor(private readonly lazy: boolean) {}

  static async start({ lazy, cachingMode, cpus }: Recording): Promise<{ player: Player; boot: QiDescriptor[] }> {
    const player = new Player(lazy);
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

  async attach(bdf: string, did: number): Promise<void> {
    const { domain, devices } = await this.#domain(did, bdf);
    if (devices.has(bdf)) return;
    const dev = await this.#probe(bdf);
    await this.#ops.attachDev(domain, dev);
    devices.set(bdf, dev);
    this.#match(domain, did);
  }

  async detach(bdf: string, did: number): Promise<void> {
    const entry = this.#domains.get(did);
    const dev = entry?.devices.get(bdf);
    if (!entry || !dev) return;
    await this.#ops.detachDev(entry.domain, dev);
    await this.#ops.releaseDevice(dev);
    entry.devices.delete(bdf);
    if (entry.devices.size === 0) this.#domains.delete(did);
  }

  async #probe(bdf: string): Promise<Device> {
    const pci = new FakePciFunction(bdf);
    const dev = new Device(bdf, parseBdf(bdf).rid, pci);
    dev.iommu = this.#machine.iommus[0];
    await this.#ops.probeDevice(dev);
    return dev;
  }

  /** The domain with the kernel's domain-id; one that the trace did not show being attached gets a device that stands in. */
  async #domain(did: number, bdf?: string): Promise<Domain> {
    const known = this.#domains.get(did);
    if (known) return known;
    const standIn =
      bdf ?? `0000:ff:${(this.#nextStandIn >> 3).toString(16).padStart(2, "0")}.${this.#nextStandIn++ & 7}`;
    const dev = await this.#probe(standIn);
    const domain = this.#ops.domainAlloc("dma", dev);
    await this.#ops.attachDev(domain, dev);
    const entry: Domain = { domain, devices: new Map([[standIn, dev]]), early: [] };
    this.#domains.set(did, entry);
    this.#match(domain, did);
    return entry;
  }

  #match(domain: IommuDomain, did: number): void {
    const ours = (domain as IommuDomain & { readonly did: number }).did;
    this.#ours.set(did, ours);
    this.#theirs.set(ours, did);
  }

  /** @returns false when something is mapped there: an earlier map of the trace was another domain's */
  async map({ iova, pa, size, did }: MapCall): Promise<boolean> {
    if (did === undefined) return false;
    const { domain } = await this.#domain(did);
    try {
      await iommuMap(domain, iova, pa, size, READ_WRITE);
      return true;
    } catch (error) {
      if (!isErrno(error, "EEXIST")) throw error;
      return false;
    }
  }

  /** Maps what is missing of an unmap's range. @returns pages that were */
  async fill({ iova, size, did }: UnmapCall): Promise<number> {
    if (did === undefined) return 0;
    const { domain } = await this.#domain(did);
    let filled = 0;
    for (let at = iova; at < iova + size; at += 4096n) {
      if (this.#ops.iovaToPhys(domain, at) !== undefined) continue;
      await iommuMap(domain, at, 0, 4096n, READ_WRITE);
      filled++;
    }
    return filled;
  }

  /** @returns bytes unmapped */
  async unmap({ iova, size, did, cpu, expected }: UnmapCall): Promise<bigint> {
    if (did === undefined) return 0n;
    const entry = await this.#domain(did);
    this.#cpu = cpu;
    // A lazy kernel does not put off every unmap: 7.3 flushes what it unlinks of an IOVA at once.
    const gather = newGather(this.lazy && expected.length === 0);
    const unmapped = iommuUnmapFast(entry.domain, iova, size, gather);
    this.take();
    await this.#ops.iotlbSync(entry.domain, gather);
    return unmapped;
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
    await (domain as IommuDomain & { readonly flushQueue?: { drain(): Promise<void> } }).flushQueue?.drain();
    return this.take();
  }

  /** Flushes of our flush queues that the trace never showed. */
  unseen(): number {
    return [...this.#domains.values()].reduce((sum, { early }) => sum + early.length, 0);
  }
}
