/**
 * One platform with an SMMUv3 and a VT-d, two devices behind each, and the plain maps beside it. Every operation runs on
 * both; the answers, the bytes, the faults and the books must agree after each.
 */
import { isDeepStrictEqual } from "node:util";
import {
  type AddressSpace,
  AddressSpaces,
  createPlatform,
  type Device,
  type Errno,
  IOMMU_SVA_FEAT_IOPF,
  isErrno,
  type MemoryFile,
  type Platform,
  type Task,
  WaitQueue,
} from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";
import { accelerator, type DmaResult, dmaStatusName, type PciDevice } from "@iommukit/pci-device";
import { DEVICES, FILE_PAGES, type Operation, STACK_PAGES, STACK_TOP, type Step, WINDOW } from "./operations.js";
import { type Flavour, ReferenceBonds } from "./reference-bonds.js";
import { ReferenceFile, ReferenceSpace } from "./reference-space.js";

const BASE = 0x4000_0000n;
const PAGE = 4096;
/** Where in its page the byte is that is looked at. */
const INSIDE = 64;
const BDFS = ["0000:01:00.0", "0001:01:00.0", "0000:02:00.0", "0001:02:00.0"].slice(0, DEVICES);
const MAX_PROCESSES = 4;
const LOAD_PAGES = 8;

/** Devices 0 and 1 ask for one page at a time, 2 and 3 for several. */
const pagesPerRequest = (device: number) => (device < 2 ? 1 : 3);

const va = (page: number) => BASE + BigInt(page * PAGE);
const plugin = (device: number) =>
  accelerator({ bdf: BDFS[device], dma: { pagesPerRequest: pagesPerRequest(device) } });

interface Process {
  readonly task: Task;
  readonly mm: AddressSpace;
  readonly reference: ReferenceSpace;
  alive: boolean;
}

export class Machine {
  readonly faults: string[] = [];
  readonly #file: MemoryFile;
  readonly #referenceFile = new ReferenceFile();
  readonly #bonds: ReferenceBonds;
  readonly #plugged = new Set(BDFS.keys());
  #processes: Process[] = [];

  private constructor(
    private readonly platform: Platform,
    flavour: Flavour,
  ) {
    this.#bonds = new ReferenceBonds(flavour);
    this.#file = platform.resolve<AddressSpaces>(AddressSpaces).createFile("data", FILE_PAGES * PAGE);
    platform.trace.on("fault:recorded", (event) =>
      this.faults.push(`${event.unit}: ${event.fault} at ${event.address}`),
    );
  }

  static async create(flavour: Flavour): Promise<Machine> {
    const platform = await createPlatform({
      iommus: [smmuv3(), vtd()],
      devices: [...BDFS.keys()].map(plugin),
      sva: flavour,
      pages: { poison: 0x6b },
      mm: { stackLimit: STACK_PAGES * PAGE },
    });
    const machine = new Machine(platform, flavour);
    await platform.run(async () => {
      await machine.#spawn();
      for (const device of BDFS.keys()) {
        await machine.#init(device);
        await machine.#bind(machine.#processes[0], device);
      }
    });
    return machine;
  }

  /** Runs the steps, looks at everything now and then and in the end. @returns what is left behind */
  async run(steps: readonly Step[]): Promise<readonly string[]> {
    await this.platform.run(async () => {
      for (const [i, step] of steps.entries()) {
        try {
          await this.#step(step);
          if (i % 25 === 24 || i === steps.length - 1) await this.#lookAtEverything();
        } catch (error) {
          const { who, ...operation } = step;
          throw new Error(`step ${i}, ${JSON.stringify(operation)} by ${who}: ${(error as Error).message}`, {
            cause: error,
          });
        }
      }
      this.#file.close();
      for (const device of this.#plugged) await this.#unbindEverything(device);
    });
    return this.platform.close();
  }

  async #step(step: Step): Promise<void> {
    await this.#apply(this.#processes[step.who % this.#processes.length], step);
    await this.platform.scheduler.idle();
    const { bonds, pasids, partials } = this.platform.sva.inUse();
    same({ bonds, pasids, partials }, { ...this.#bonds.inUse(), partials: 0 });
    same(this.faults, []);
  }

  async #apply(process: Process, step: Operation): Promise<void> {
    const { mm, reference } = process;
    switch (step.op) {
      case "mmap": {
        const { page, count, prot, kind, index } = step;
        const file = kind === "file" || kind === "sharedFile" ? { file: this.#file, offset: index * PAGE } : {};
        const shared = kind === "shared" || kind === "sharedFile";
        await mm.mmap({ address: va(page), fixed: true, length: count * PAGE, prot, shared, ...file });
        return reference.map(page, count, prot, kind, index);
      }
      case "munmap":
        await mm.munmap(va(step.page), step.count * PAGE);
        return reference.unmap(step.page, step.count);
      case "dontneed":
      case "hugepage": {
        const covered = reference.covers(step.page, step.count);
        const { op: advice } = step;
        await answers(covered ? undefined : "ENOMEM", () => mm.madvise(va(step.page), step.count * PAGE, advice));
        if (covered && step.op === "dontneed") reference.discard(step.page, step.count);
        return;
      }
      case "populate": {
        const covered = reference.covers(step.page, step.count);
        await answers(covered ? ["EFAULT", undefined] : "ENOMEM", () =>
          mm.madvise(va(step.page), step.count * PAGE, "populate"),
        );
        if (covered) reference.own(step.page, step.count);
        return;
      }
      case "mprotect": {
        const covered = reference.covers(step.page, step.count);
        await answers(covered ? undefined : "ENOMEM", () => mm.mprotect(va(step.page), step.count * PAGE, step.prot));
        if (covered) reference.protect(step.page, step.count, step.prot);
        return;
      }
      case "mremap":
        return this.#mremap(process, step);
      case "age":
        await mm.age(va(step.page), step.count * PAGE);
        return;
      case "collapse":
        await mm.collapse(va(step.page));
        return;
      case "split":
        return mm.split(va(step.page));
      case "merge":
        await mm.merge(va(step.page), va(step.other));
        return;
      case "truncate":
        return this.#truncate(step.size);
      case "cpuRead":
        return this.#cpuRead(process, step.page, step.count);
      case "cpuWrite":
        return this.#cpuWrite(process, step.page, step.count, step.value);
      case "deviceRead":
        return this.#deviceRead(process, step.device, step.page, step.count);
      case "deviceWrite":
        return this.#deviceWrite(process, step.device, step.page, step.count, step.value);
      case "race":
        return this.#race(process, step);
      case "spawn":
        return this.#spawn();
      case "fork":
        return this.#fork(process);
      case "exit":
        return this.#exit(process);
      case "exitUnderLoad":
        return this.#exitUnderLoad(process, step.value);
      case "bind":
        return this.#bind(process, step.device);
      case "unbind":
        return this.#unbind(process, step.device);
      case "init":
        return this.#init(step.device);
      case "shutdown":
        return this.#shutdown(step.device);
      case "plug":
        return this.#plug(step.device);
      case "unplug":
        return this.#unplug(step.device);
    }
  }

  async #mremap({ mm, reference }: Process, step: Operation & { op: "mremap" }): Promise<void> {
    const { page, count, to } = step;
    const size = Math.min(step.size, WINDOW - to);
    const vma = mm.findVma(va(page));
    const whole = vma !== undefined && vma.end >= va(page + count);
    // What grows has to be simple to extend in the reference.
    if (whole && size > count && (vma.shared || vma.name !== "")) return;
    const overlap = to < page + count && page < to + size;
    const expected = whole ? (overlap ? "EINVAL" : undefined) : "EFAULT";
    await answers(expected, () => mm.mremap(va(page), count * PAGE, size * PAGE, { to: va(to) }));
    if (expected === undefined) reference.move(page, count, to, size);
  }

  async #truncate(size: number): Promise<void> {
    await this.#file.truncate(size * PAGE);
    const { cells } = this.#referenceFile;
    for (let index = size; index < FILE_PAGES; index++) cells[index] = { value: 0 };
    this.#referenceFile.pages = size;
    for (const { reference } of this.#processes) reference.fileChanged();
  }

  // Accesses begin at the byte that is looked at, and end at that of their last page.

  async #cpuRead({ mm, reference }: Process, page: number, count: number): Promise<void> {
    reference.growStack(page);
    const bytes = new Uint8Array(length(count));
    // A CPU reads what it may only execute or write as well: every page here that is accessible is readable.
    const reached = reference.reach(page, count, false);
    same(await mm.read(va(page) + BigInt(INSIDE), bytes), done(reached, count));
    this.#compare(reference, page, reached, bytes);
  }

  async #cpuWrite({ mm, reference }: Process, page: number, count: number, value: number): Promise<void> {
    reference.growStack(page);
    const reached = reference.reach(page, count, true);
    const bytes = new Uint8Array(length(count)).fill(value);
    same(await mm.write(va(page) + BigInt(INSIDE), bytes), done(reached, count));
    for (let i = 0; i < reached; i++) reference.store(page + i, value);
  }

  async #deviceRead(process: Process, device: number, page: number, count: number): Promise<void> {
    const { reference } = process;
    if (!this.#bonds.bound(device, process)) return;
    const bytes = new Uint8Array(length(count));
    const reached = reference.reach(page, count, false);
    const result = await this.#pci(device).dma.read(this.#pasid(process), va(page) + BigInt(INSIDE), bytes);
    this.#compare(reference, page, moved(device, result, reached, count), bytes);
  }

  async #deviceWrite(process: Process, device: number, page: number, count: number, value: number): Promise<void> {
    const { reference } = process;
    if (!this.#bonds.bound(device, process)) return;
    const bytes = new Uint8Array(length(count)).fill(value);
    const reached = reference.reach(page, count, true);
    const result = await this.#pci(device).dma.write(this.#pasid(process), va(page) + BigInt(INSIDE), bytes);
    const written = moved(device, result, reached, count);
    for (let i = 0; i < written; i++) reference.store(page + i, value);
    // Pages before the invalid one of its group have had their write fault, though no write came.
    reference.own(page + written, reached - written);
  }

  #compare(reference: ReferenceSpace, page: number, reached: number, bytes: Uint8Array): void {
    for (let i = 0; i < reached; i++) {
      if (bytes[i * PAGE] === reference.value(page + i)) continue;
      throw new Error(`page ${page + i} reads ${bytes[i * PAGE]}, expected ${reference.value(page + i)}`);
    }
  }

  /** Every bound device and the CPU write pages of their own, while what is mapped there changes its shape. */
  async #race(process: Process, { page, reshape, value }: Operation & { op: "race" }): Promise<void> {
    const { mm, reference } = process;
    const threads = this.#devicesOf(process).map(
      (device) => () => this.#deviceWrite(process, device, page + device, 1, value),
    );
    const block = (page >> 9) << 9;
    const changes = {
      collapse: () => mm.collapse(va(page)),
      split: () => mm.split(va(page)),
      merge: () => mm.merge(va(page), va(page + 1)),
      age: () => mm.age(va(block), 512 * PAGE),
      // As it is: permissions are written anew, mappings split and merge.
      mprotect: async () => {
        const at = reference.pages.get(page);
        if (at)
          await mm.mprotect(
            va(page),
            PAGE,
            at.exec ? (at.write ? "rwx" : "rx") : at.write ? "rw" : at.read ? "r" : "none",
          );
      },
    };
    await this.#together([
      ...threads,
      () => this.#cpuWrite(process, page + DEVICES, 1, value),
      async () => void (await changes[reshape]()),
    ]);
  }

  async #spawn(): Promise<void> {
    if (this.#processes.length >= MAX_PROCESSES) return;
    const task = this.platform.kernel.spawn();
    const mm = task.mm as AddressSpace;
    await mm.mmap({ address: va(STACK_TOP - 1), fixed: true, length: PAGE, growsDown: true, name: "[stack]" });
    this.#processes.push({ task, mm, reference: new ReferenceSpace(this.#referenceFile), alive: true });
  }

  async #fork({ task, reference }: Process): Promise<void> {
    if (this.#processes.length >= MAX_PROCESSES) return;
    const child = await task.fork();
    this.#processes.push({
      task: child,
      mm: child.mm as AddressSpace,
      reference: reference.fork(),
      alive: true,
    });
  }

  async #exit(process: Process): Promise<void> {
    process.alive = false;
    this.#processes = this.#processes.filter((each) => each !== process);
    await process.task.exit();
    this.#bonds.exit(process);
    if (this.#processes.length === 0) await this.#spawn();
  }

  /** Its devices go on writing while it exits: nobody can say how far they get, so nobody else may see it. */
  async #exitUnderLoad(process: Process, value: number): Promise<void> {
    for (let page = 0; page < LOAD_PAGES; page++) if (process.reference.pages.get(page)?.shared) return;
    const pasid = this.#pasid(process);
    const load = this.#devicesOf(process).map((device) => async () => {
      await this.#pci(device).dma.write(pasid, va(0), new Uint8Array(LOAD_PAGES * PAGE).fill(value));
    });
    await this.#together([...load, () => this.#exit(process)]);
  }

  #devicesOf(process: Process): number[] {
    return [...BDFS.keys()].filter((device) => this.#bonds.bound(device, process));
  }

  /** Runs each in a thread of its own. */
  async #together(bodies: readonly (() => Promise<void>)[]): Promise<void> {
    const { scheduler } = this.platform;
    const ended = new WaitQueue(scheduler, "the threads of a step");
    const errors: unknown[] = [];
    let running = bodies.length;
    for (const [i, body] of bodies.entries()) {
      scheduler.spawn(`thread ${i}`, async () => {
        await body().catch((error: unknown) => errors.push(error));
        running--;
        ended.wakeAll();
      });
    }
    await ended.wait(() => running === 0);
    if (errors.length > 0) throw errors[0];
  }

  async #bind(process: Process, device: number): Promise<void> {
    if (!this.#plugged.has(device)) return;
    const expected = this.#bonds.bind(device, process);
    const bind = () => this.platform.sva.iommuSvaBindDevice(this.#device(device), process.mm, IOMMU_SVA_FEAT_IOPF);
    if (typeof expected === "string") await answers(expected, bind);
    else same(await bind(), expected);
  }

  /** One of its own bonds, or a PASID that is free or another process's. */
  async #unbind(process: Process, device: number): Promise<void> {
    if (!this.#plugged.has(device)) return;
    const pasid = this.#bonds.pasidOf(process) ?? this.#bonds.pasids()[0] ?? 1;
    await this.#stop(device, pasid);
    await answers(this.#bonds.unbind(device, pasid), () =>
      this.platform.sva.iommuSvaUnbindDevice(this.#device(device), pasid),
    );
  }

  /** What a device driver does before it unbinds: nobody asks for pages with the PASID any more. */
  async #stop(device: number, pasid: number): Promise<void> {
    if (this.#bonds.has(device, pasid)) await this.#pci(device).stopPasid(pasid);
  }

  async #unbindEverything(device: number): Promise<void> {
    for (const pasid of this.#bonds.pasids()) await this.#stop(device, pasid);
    await this.platform.sva.unbindDeviceAll(this.#device(device));
  }

  async #init(device: number): Promise<void> {
    if (!this.#plugged.has(device)) return;
    const dev = this.#device(device);
    dev.pci.writeConfig(4, 2, 6);
    await answers(this.#bonds.init(device), () =>
      this.platform.sva.iommuSvaDeviceInit(dev, IOMMU_SVA_FEAT_IOPF, 0, async (_dev, pasid) => {
        await this.#pci(device).stopPasid(pasid);
        return 0;
      }),
    );
  }

  async #shutdown(device: number): Promise<void> {
    if (!this.#plugged.has(device)) return;
    for (const pasid of this.#bonds.pasids()) await this.#stop(device, pasid);
    await answers(this.#bonds.shutdown(device), () => this.platform.sva.iommuSvaDeviceShutdown(this.#device(device)));
  }

  async #plug(device: number): Promise<void> {
    if (this.#plugged.has(device)) return;
    await this.platform.plug(plugin(device));
    this.#plugged.add(device);
    await this.#init(device);
  }

  async #unplug(device: number): Promise<void> {
    if (!this.#plugged.delete(device)) return;
    this.#bonds.shutdown(device);
    await this.platform.unplug(BDFS[device]);
  }

  /** The bytes of every process as the CPU and as each of its devices sees them. */
  async #lookAtEverything(): Promise<void> {
    for (const process of this.#processes) {
      for (const page of process.reference.pages.keys()) {
        if (page >= 16 && (page < 500 || page >= 524) && page < 1014) continue;
        await this.#cpuRead(process, page, 1);
        for (const device of BDFS.keys()) await this.#deviceRead(process, device, page, 1);
      }
    }
  }

  #device(device: number): Device {
    return this.platform.device(BDFS[device]);
  }

  #pci(device: number): PciDevice {
    return this.#device(device).pci as PciDevice;
  }

  #pasid(process: Process): number {
    return this.#bonds.pasidOf(process) as number;
  }
}

function length(count: number): number {
  return (count - 1) * PAGE + 1;
}

/** Bytes moved when that many pages of the access are there. */
function done(reached: number, count: number): number {
  if (reached === count) return length(count);
  return reached === 0 ? 0 : reached * PAGE - INSIDE;
}

/**
 * How far a device's access came. One invalid page is the answer to its whole group (E4): who asks for several pages at once
 * may stop earlier.
 */
function moved(device: number, result: DmaResult, reached: number, count: number): number {
  same(dmaStatusName(result.status), reached === count ? "OK" : "INVALID_PAGE");
  let pages = reached;
  if (reached < count && pagesPerRequest(device) > 1) while (pages > 0 && result.done !== done(pages, count)) pages--;
  same(result.done, done(pages, count));
  return pages;
}

async function answers(expected: Errno | undefined | readonly (Errno | undefined)[], call: () => Promise<unknown>) {
  let code: Errno | undefined;
  try {
    await call();
  } catch (error) {
    if (!isErrno(error)) throw error;
    code = error.code;
  }
  if (Array.isArray(expected)) same(expected.includes(code), true);
  else same(code, expected);
}

function same(actual: unknown, expected: unknown): void {
  if (!isDeepStrictEqual(actual, expected))
    throw new Error(`got ${JSON.stringify(actual)}, expected ${JSON.stringify(expected)}`);
}
