/**
 * `iotlb`: rules of mapping, unmapping and looking up. The cases of virtio-iommu and crosvm run through VFIO type1 v2 on both
 * backends, a page of memory for each of their bytes; a lookup is a device's read. Those of vm-memory, which are about a
 * cache of translations, run on a device's Address Translation Cache.
 */
import {
  Access,
  type AddressSpace,
  AtsCompletion,
  createPlatform,
  type IommuPlugin,
  isErrno,
  NO_PASID,
  type Platform,
} from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";
import { Atc, edu, type PciDevice } from "@iommukit/pci-device";
import { DmaMapFlags, VfioContainer, vfioType1 } from "@iommukit/vfio-type1";
import { Looked, type Pieces } from "../iotlb/looked.js";
import { type LoadedFile, listIn } from "../load.js";
import type { Report } from "../report.js";

type Amount = number | string;
interface Step {
  readonly op: "map" | "unmap" | "lookup" | "invalidate" | "invalidate_all";
  readonly iova?: Amount;
  readonly pa?: Amount;
  readonly len?: Amount;
  readonly prot?: string;
  readonly access?: string;
  readonly expect?: number | string | Pieces | { readonly access_fail?: Pieces; readonly miss?: Pieces };
}

interface IotlbCase {
  readonly id: string;
  readonly source?: string;
  readonly steps: readonly Step[];
}

const PAGE = 4096n;
const BDF = "0000:00:05.0";
/** Pages of the program's memory: those that are mapped hold their own number. Cases name physical pages below it. */
const PAGES = 2048;

const BACKENDS: Readonly<Record<string, () => IommuPlugin>> = { smmuv3: () => smmuv3(), vtd: () => vtd() };

const OPERATIONS: readonly unknown[] = [
  "map",
  "unmap",
  "lookup",
  "invalidate",
  "invalidate_all",
] satisfies readonly Step["op"][];

export const holds = "cases of mapping, unmapping and looking up";

export function recognises(file: LoadedFile): boolean {
  return listIn<IotlbCase>(file, "cases").some((one) => one?.steps?.some?.((step) => OPERATIONS.includes(step?.op)));
}

export async function run(files: LoadedFile[], report: Report): Promise<void> {
  for (const one of files.flatMap((file) => listIn<IotlbCase>(file, "cases")))
    await report.attempt(`${one?.id}`, () => judge(one as IotlbCase, report));
}

async function judge(one: IotlbCase, report: Report): Promise<void> {
  const unknown = one.steps.find(({ op }) => !OPERATIONS.includes(op));
  if (unknown) throw new Error(`no operation is called ${JSON.stringify(unknown.op)}`);
  // A range that several pieces answer for is in vm-memory's tests a cache's, in crosvm's a domain's.
  const ofDomain = /crosvm|virtio/.test(`${one.id} ${one.source}`);
  const aboutCaches = one.steps.some(
    ({ op, expect }) =>
      op.startsWith("invalidate") || (typeof expect === "object" && !(ofDomain && Array.isArray(expect))),
  );
  if (aboutCaches) judgeCache(one, report);
  else for (const backend of Object.keys(BACKENDS)) await judgeMappings(one, backend, report);
}

function tell(report: Report, where: string, found: unknown, expected: unknown): void {
  if (JSON.stringify(found) === JSON.stringify(expected)) report.pass();
  else report.fail(`${where}: ${JSON.stringify(found)}, expected ${JSON.stringify(expected)}`);
}

// Mappings, through VFIO.

/** "2^64-2" is two pages below the end of the address space; numbers may be hexadecimal. */
function bytesOf(amount: Amount = 0): bigint {
  if (typeof amount === "number" || amount.startsWith("0x")) return BigInt(amount) * PAGE;
  const below = /^2\^64-(\d+)$/.exec(amount);
  if (!below) throw new Error(`amount ${amount}`);
  return 2n ** 64n - BigInt(below[1]) * PAGE;
}

class Program {
  private constructor(
    readonly platform: Platform,
    readonly container: VfioContainer,
    readonly mm: AddressSpace,
    readonly memory: bigint,
  ) {}

  static async start(backend: string): Promise<Program> {
    const platform = await createPlatform({
      iommus: [BACKENDS[backend]()],
      devices: [edu({ bdf: BDF })],
      services: [vfioType1()],
    });
    return platform.run(async () => {
      const task = platform.kernel.spawn();
      const mm = task.mm as AddressSpace;
      const memory = await mm.mmap({ length: PAGES * Number(PAGE) });
      const container = await VfioContainer.open(task);
      const group = await container.attach(platform.device(BDF).group?.id ?? 0);
      await container.setIommu();
      const device = await group.device(BDF);
      await device.enableBusMaster();
      return new Program(platform, container, mm, memory);
    });
  }

  /** @returns "ok", or the error's name */
  async #attempt(body: () => Promise<unknown>): Promise<string> {
    try {
      await body();
      return "ok";
    } catch (error) {
      if (isErrno(error)) return error.code;
      throw error;
    }
  }

  async map(step: Step): Promise<string> {
    const flags =
      (step.prot?.includes("R") ? DmaMapFlags.READ : 0) | (step.prot?.includes("W") ? DmaMapFlags.WRITE : 0);
    await this.#number(step);
    const vaddr = typeof step.pa === "string" ? bytesOf(step.pa) : this.memory + bytesOf(step.pa);
    return this.#attempt(() =>
      this.container.mapDma({ iova: bytesOf(step.iova), vaddr, size: bytesOf(step.len), flags }),
    );
  }

  async #number({ pa, len }: Step): Promise<void> {
    if (typeof pa !== "number" || typeof len !== "number") return;
    if (!(pa >= 0 && len >= 0 && pa + len <= PAGES)) throw new Error(`pages ${pa}+${len} are not within ${PAGES}`);
    for (let page = pa; page < pa + len; page++) {
      await this.mm.write(this.memory + BigInt(page) * PAGE, new Uint8Array(Uint32Array.of(page).buffer));
    }
  }

  unmap(step: Step): Promise<string> {
    return this.#attempt(() => this.container.unmapDma({ iova: bytesOf(step.iova), size: bytesOf(step.len) }));
  }

  /** What a device finds there that reads, and writes back what it read. */
  lookup({ iova, len = 1, access = "" }: Step): Looked {
    const { dma } = this.platform.device(BDF).pci as PciDevice;
    const looked = new Looked();
    const page = new Uint8Array(4);
    const pages = bytesOf(len) / PAGE;
    if (pages < 0n || pages > PAGES) throw new Error(`${len} is not a number of pages from 0 to ${PAGES}`);
    for (let n = 0n; n < pages; n++) {
      const at = bytesOf(iova) + n * PAGE;
      const readable = dma.tryRead(NO_PASID, at, page) === 0;
      const writable = readable && dma.tryWrite(NO_PASID, at, page) === 0;
      const pa = readable ? new DataView(page.buffer).getUint32(0, true) : undefined;
      looked.add(Number(at / PAGE), pa, `${readable ? "R" : ""}${writable ? "W" : ""}`, access);
    }
    return looked;
  }
}

async function judgeMappings(one: IotlbCase, backend: string, report: Report): Promise<void> {
  const program = await Program.start(backend);
  await program.platform.run(async () => {
    for (const [index, step] of one.steps.entries()) {
      const where = `${one.id} on ${backend}, step ${index} ${step.op} ${step.iova}+${step.len}`;
      if (step.op === "lookup") {
        tell(report, where, program.lookup(step).like(step.expect), step.expect);
        continue;
      }
      const outcome = await (step.op === "map" ? program.map(step) : program.unmap(step));
      const wanted = typeof step.expect === "string" ? step.expect : "ok";
      if ((outcome !== "ok") === wanted.includes("error")) report.pass();
      else report.fail(`${where}: ${outcome}, expected ${wanted}`);
    }
  });
  const leaks = await program.platform.close();
  if (leaks.length > 0) report.fail(`${one.id} on ${backend} leaves ${leaks.join("; ")}`);
}

// A cache of translations.

const RIGHTS: Readonly<Record<string, number>> = {
  R: Access.READ,
  W: Access.WRITE,
  RW: Access.READ | Access.WRITE,
  none: 0,
};

function judgeCache(one: IotlbCase, report: Report): void {
  const atc = new Atc({ sets: 256, ways: 8 });
  for (const [index, step] of one.steps.entries()) {
    const [iova, len] = [Number(step.iova ?? 0), Number(step.len ?? 0)];
    const where = `${one.id}, step ${index} ${step.op} ${iova}+${len}`;
    if (!(len >= 0 && len <= PAGES)) throw new Error(`${where}: not a number of pages from 0 to ${PAGES}`);
    if (step.op === "map")
      for (let n = 0; n < len; n++) fill(atc, iova + n, Number(step.pa) + n, RIGHTS[step.prot ?? "RW"]);
    else if (step.op === "invalidate")
      for (let n = 0; n < len; n++) atc.invalidate(NO_PASID, 0, (iova + n) << 12, 12, false);
    else if (step.op === "invalidate_all") atc.invalidate(NO_PASID, 0, 0, 64, true);
    else tell(report, where, lookUp(atc, iova, len, step.access ?? "none").like(step.expect), step.expect);
  }
}

function fill(atc: Atc, page: number, pa: number, perms: number): void {
  const completion = new AtsCompletion();
  completion.lo = pa << 12;
  completion.read = (perms & Access.READ) !== 0;
  completion.write = (perms & Access.WRITE) !== 0;
  atc.fill(NO_PASID, 0, page << 12, perms, completion);
}

function lookUp(atc: Atc, iova: number, len: number, access: string): Looked {
  const looked = new Looked();
  for (let page = iova; page < iova + len; page++) {
    const known = atc.lookup(NO_PASID, 0, page << 12, RIGHTS[access]);
    const rights = known ? `${atc.perms & Access.READ ? "R" : ""}${atc.perms & Access.WRITE ? "W" : ""}` : "";
    looked.add(page, known ? atc.paLo(page << 12) >>> 12 : undefined, rights, access === "none" ? "" : access);
  }
  return looked;
}
