/** A device that keeps no rule next to one that serves a process: it gets nothing, and the other is served all the same. */
import {
  Access,
  type AddressSpace,
  createPlatform,
  type Device,
  IOMMU_SVA_FEAT_IOPF,
  type IommuPlugin,
  NO_PASID,
  type Platform,
} from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";
import { accelerator, type PciDevice, type Rogue, type RogueOptions, rogue } from "@iommukit/pci-device";
import { describe, expect, it } from "vitest";

const ROGUE = "0000:01:00.0";
const VICTIM = "0000:02:00.0";
const SECRET = new TextEncoder().encode("secret");
const MS = 1_000_000;

interface Scene {
  readonly platform: Platform;
  readonly attacker: Rogue;
  readonly victim: PciDevice;
  readonly mm: AddressSpace;
  readonly pasid: number;
  /** Virtual and physical address of a page of the victim's process. */
  readonly page: bigint;
  readonly pa: number;
}

async function bind(platform: Platform, device: Device, mm: AddressSpace): Promise<number> {
  device.pci.writeConfig(4, 2, 6);
  await platform.sva.iommuSvaDeviceInit(device, IOMMU_SVA_FEAT_IOPF, 0, async () => 0);
  return platform.sva.iommuSvaBindDevice(device, mm, IOMMU_SVA_FEAT_IOPF);
}

async function stage(iommu: IommuPlugin, options: Partial<RogueOptions> = {}, completionDelay = 0): Promise<Scene> {
  const platform = await createPlatform({
    iommus: [iommu],
    devices: [rogue({ bdf: ROGUE, ...options }), accelerator({ bdf: VICTIM, ats: { completionDelay } })],
  });
  const attacker = platform.device(ROGUE).pci as Rogue;
  const victim = platform.device(VICTIM).pci as PciDevice;
  attacker.writeConfig(4, 2, 6);
  return platform.run(async () => {
    const mm = platform.kernel.spawn({ name: "victim" }).mm as AddressSpace;
    const pasid = await bind(platform, platform.device(VICTIM), mm);
    const page = await mm.mmap({ length: 8 * 4096 });
    await mm.write(page, SECRET);
    const pinned = await mm.pin(page, true);
    const { pa } = pinned;
    pinned.unpin();
    return { platform, attacker, victim, mm, pasid, page, pa };
  });
}

/** The victim's device reads the secret, and a page that has to be faulted in. */
async function served({ platform, victim, pasid, page }: Scene): Promise<boolean> {
  return platform.run(async () => {
    const bytes = new Uint8Array(SECRET.length);
    const read = await victim.dma.read(pasid, page, bytes);
    const written = await victim.dma.write(pasid, page + 4n * 4096n, Uint8Array.of(1));
    return read.status === 0 && written.status === 0 && bytes.every((byte, n) => byte === SECRET[n]);
  });
}

const BACKENDS: readonly (readonly [string, () => IommuPlugin])[] = [
  ["smmuv3", () => smmuv3()],
  ["vtd", () => vtd()],
];

describe.each(BACKENDS)("a misbehaving device behind %s", (_name, iommu) => {
  it("gets nothing by translated requests with made-up addresses where it is not trusted with ATS", async () => {
    const scene = await stage(iommu(), { untrusted: true });
    const into = new Uint8Array(SECRET.length);
    const address = BigInt(scene.pa);
    for (const pasid of [NO_PASID, scene.pasid]) {
      expect(scene.attacker.send(pasid, address, into, Access.READ | Access.TRANSLATED)).toBe(false);
      expect(scene.attacker.send(pasid, address, Uint8Array.of(9), Access.WRITE | Access.TRANSLATED)).toBe(false);
    }
    expect([...into]).toEqual([0, 0, 0, 0, 0, 0]);
    expect(await served(scene)).toBe(true);
  });

  it("gets everything by translated requests once it is trusted with ATS: that is what ATS means", async () => {
    const scene = await stage(iommu());
    const { platform, attacker } = scene;
    await platform.run(async () => bind(platform, platform.device(ROGUE), platform.kernel.spawn().mm as AddressSpace));
    const into = new Uint8Array(SECRET.length);
    expect(attacker.send(NO_PASID, BigInt(scene.pa), into, Access.READ | Access.TRANSLATED)).toBe(true);
    expect(into).toEqual(SECRET);
  });

  it("gets nothing by PASIDs of others or of nobody, and no translation either", async () => {
    const scene = await stage(iommu());
    const into = new Uint8Array(SECRET.length);
    for (const pasid of [scene.pasid, 0, 2, 77, 0xf_ffff]) {
      for (const privileged of [0, Access.PRIV]) {
        expect(scene.attacker.send(pasid, scene.page, into, Access.READ | privileged)).toBe(false);
        expect(scene.attacker.ask(pasid, scene.page, Access.READ | privileged)).toBeUndefined();
      }
    }
    expect([...into]).toEqual([0, 0, 0, 0, 0, 0]);
    expect(await served(scene)).toBe(true);
  });

  it("reaches with its own process's PASID what that process has, and no more", async () => {
    const scene = await stage(iommu());
    const { platform, attacker } = scene;
    const { own, at } = await platform.run(async () => {
      const mm = platform.kernel.spawn({ name: "accomplice" }).mm as AddressSpace;
      const own = await bind(platform, platform.device(ROGUE), mm);
      const at = await mm.mmap({ length: 4096 });
      await mm.write(at, Uint8Array.of(42));
      return { own, at };
    });
    const into = new Uint8Array(1);
    expect(attacker.send(own, at, into, Access.READ) && into[0]).toBe(42);
    expect(attacker.send(scene.pasid, scene.page, into, Access.READ)).toBe(false);
    expect(attacker.send(own, 0xffff_8000_0000_0000n, into, Access.READ | Access.PRIV)).toBe(false);
  });

  it("floods the page request queue, and the other device's faults are served all the same", async () => {
    const scene = await stage(iommu());
    const { platform, attacker } = scene;
    await platform.run(async () => {
      const mm = platform.kernel.spawn({ name: "accomplice" }).mm as AddressSpace;
      const own = await bind(platform, platform.device(ROGUE), mm);
      for (let n = 0; n < 20_000; n++) {
        attacker.request({
          pasid: own,
          hi: 0,
          lo: (n % 4096) << 12,
          read: true,
          write: true,
          execute: false,
          privileged: false,
          last: n % 3 === 0,
          prgi: n % 512,
        });
      }
      await platform.scheduler.idle();
    });
    expect(await served(scene)).toBe(true);
    expect(platform.sva.inUse().partials).toBeLessThanOrEqual(512);
  });

  it("answers no invalidation: software gives up after its time, and the other device goes on", async () => {
    const scene = await stage(iommu(), { invalidations: "never" });
    const { platform, attacker } = scene;
    await platform.run(async () => {
      const mm = platform.kernel.spawn({ name: "accomplice" }).mm as AddressSpace;
      const own = await bind(platform, platform.device(ROGUE), mm);
      const at = await mm.mmap({ length: 4096 });
      await mm.write(at, Uint8Array.of(1));
      attacker.ask(own, at, Access.READ);
      await mm.munmap(at, 4096);
    });
    expect(attacker.invalidated.length).toBeGreaterThan(0);
    expect(platform.kernel.log.length).toBeGreaterThan(0);
    expect(await served(scene)).toBe(true);
  });

  it("cannot complete the invalidations of others by naming every tag", async () => {
    const scene = await stage(iommu(), {}, MS);
    const { platform, attacker, victim, mm, pasid, page } = scene;
    await platform.run(async () => {
      await victim.dma.read(pasid, page, new Uint8Array(1));
      platform.scheduler.timer(MS / 2, () => {
        for (let count = 0; count < 8; count++) attacker.complete(-1, count);
      });
      const start = platform.scheduler.now;
      await mm.munmap(page, 4096);
      expect(platform.scheduler.now - start).toBeGreaterThanOrEqual(MS);
    });
  });

  it("gets no ATS at all where it is not trusted", async () => {
    const scene = await stage(iommu(), { untrusted: true });
    const { platform, attacker } = scene;
    const outcome = await platform.run(async () => {
      const mm = platform.kernel.spawn().mm as AddressSpace;
      return bind(platform, platform.device(ROGUE), mm).then(
        () => "bound",
        (error: Error) => error.message,
      );
    });
    expect(outcome).not.toBe("bound");
    expect(attacker.ats?.enabled).toBe(false);
    expect(attacker.ask(NO_PASID, scene.page, Access.READ)).toBeUndefined();
    expect(await served(scene)).toBe(true);
  });
});
