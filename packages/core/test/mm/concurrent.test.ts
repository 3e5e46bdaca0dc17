import { describe, expect, it } from "vitest";
import {
  Access,
  type AddressSpace,
  isErrno,
  type Mm,
  type MmuNotifier,
  type PageTableFormat,
  Random,
} from "../../src/index.js";
import { walkPageTable } from "../../src/testing/index.js";
import { World } from "./world.js";

const BASE = 0x4000_0000n;
const PAGES = 600;
const FORMATS: PageTableFormat[] = ["vmsav8-64", "x86-64"];

/** A device that keeps translations until it is told, and takes its time to forget. */
class Device implements MmuNotifier {
  readonly cached = new Map<bigint, number>();

  constructor(
    private readonly mm: AddressSpace,
    private readonly world: World,
    private readonly random: Random,
  ) {}

  async access(address: bigint): Promise<void> {
    if (this.cached.has(address) || (await this.mm.fault(address, Access.WRITE)) !== "ok" || this.mm.mmUsers === 0)
      return;
    const walk = walkPageTable(this.world.memory, this.mm.pageTable(FORMATS[this.random.below(2)]), address);
    if (walk.pa !== undefined) this.cached.set(address, walk.pa);
  }

  async release(): Promise<void> {
    await this.world.scheduler.sleep(this.random.below(500));
    this.cached.clear();
  }

  async invalidateRange(_mm: Mm, start: bigint, end: bigint): Promise<void> {
    await this.world.scheduler.sleep(this.random.below(500));
    for (const at of this.cached.keys()) if (at >= start && at < end) this.cached.delete(at);
  }

  async clearFlushYoung(): Promise<boolean> {
    return false;
  }

  async changePte(mm: Mm, address: bigint): Promise<void> {
    await this.invalidateRange(mm, address, address + 4096n);
  }
}

async function thread(mm: AddressSpace, device: Device, random: Random, world: World): Promise<void> {
  for (let step = 0; step < 60; step++) {
    await world.scheduler.sleep(random.below(300));
    const at = BASE + BigInt(random.below(PAGES)) * 4096n;
    const length = (1 + random.below(20)) * 4096;
    try {
      switch (random.below(10)) {
        case 0:
          await mm.mmap({ address: at, length, fixed: true });
          break;
        case 1:
          await mm.munmap(at, length);
          break;
        case 2:
          await mm.mprotect(at, length, random.pick(["r", "rw", "none"]));
          break;
        case 3:
          await mm.madvise(at, length, random.pick(["dontneed", "hugepage", "populate"]));
          break;
        case 4:
          await mm.mremap(at, length, length, { to: BASE + BigInt(random.below(PAGES)) * 4096n });
          break;
        case 5: {
          const child = await mm.fork("child");
          await child.write(at, Uint8Array.of(step));
          await child.mmput();
          break;
        }
        case 6:
          await mm.collapse(at);
          break;
        case 7:
          await mm.write(at, Uint8Array.of(step));
          break;
        default:
          await device.access(at);
      }
    } catch (error) {
      if (!isErrno(error)) throw error;
    }
  }
}

describe("AddressSpace under several threads and a device", () => {
  it.each(Array.from({ length: 12 }, (_, seed) => seed))(
    "frees no page that the device still knows, and leaks none (seed %i)",
    async (seed) => {
      const world = new World();
      const random = new Random(seed);
      await world.run(async () => {
        const mm = world.create();
        const device = new Device(mm, world, random);
        mm.registerNotifier(device);
        world.trace.on("page:freed", ({ address, pages }) => {
          for (const pa of device.cached.values()) {
            if (pa >= address && pa < address + pages * 4096)
              throw new Error(`0x${pa.toString(16)} was freed while the device knew it`);
          }
        });
        await mm.mmap({ address: BASE, length: PAGES * 4096 });
        await mm.madvise(BASE, PAGES * 4096, "hugepage");
        for (const name of ["a", "b", "c"]) {
          mm.mmget();
          world.scheduler.spawn(name, async () => {
            await thread(mm, device, random, world);
            await mm.mmput();
          });
        }
        await world.scheduler.sleep(seed * 2000);
        // Now and then the main thread is the first to go.
        await mm.mmput();
        while (mm.mmUsers > 0) await world.scheduler.sleep(10_000);
        await world.scheduler.idle();
      });
      expect([...world.pages.usage()]).toEqual([]);
    },
  );
});
