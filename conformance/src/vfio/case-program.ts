/** One program of the peers' cases: does each step and notes what differs from what it expects. */
import {
  type AddressSpace,
  EventFd,
  type FileMapping,
  type IommuError,
  isErrno,
  O,
  OpenFile,
  Random,
  type Task,
} from "@iommukit/core";
import { DmaMapFlags, PciIrq, VfioContainer, type VfioDevice, type VfioGroup } from "@iommukit/vfio-type1";
import type { CaseMachine } from "./case-machine.js";

export interface CaseStep {
  readonly op: string;
  readonly args: Readonly<Record<string, unknown>>;
  readonly expect: unknown;
}

interface Mapping {
  readonly iova: bigint;
  readonly size: bigint;
}

const PAGE = 4096n;
const MIB2 = 0x20_0000n;
const GIB = 0x4000_0000n;
const APERTURE_START = 1n << 24n;
const CONFIG = 7;
const MMAP_FLAG = 4;

export class CaseProgram {
  readonly differences: string[] = [];
  readonly #random = new Random(1);
  readonly #sizes = new Set<number>();
  readonly #events: EventFd[] = [];
  #buffer = 0n;
  #last: Mapping = { iova: 0n, size: PAGE };
  #stop: () => void = () => {};

  private constructor(
    private readonly machine: CaseMachine,
    private readonly task: Task,
    private readonly type: number,
    private readonly id: string,
    private readonly container: VfioContainer,
    private readonly group: VfioGroup,
  ) {}

  static async start(machine: CaseMachine, type: number, id: string): Promise<CaseProgram> {
    const { platform, edu, network } = machine;
    const task = platform.kernel.spawn({ name: id });
    const container = await VfioContainer.open(task);
    const bdf = id.includes("msix") || id.endsWith(".reset") ? network : edu;
    const group = await container.attach(platform.device(bdf).group?.id ?? -1);
    const program = new CaseProgram(machine, task, type, id, container, group);
    if (!id.includes("wrong_type")) await container.setIommu(type);
    program.#buffer = await program.#memory(id);
    program.#stop = platform.trace.on("iommu:mapped", ({ size }) => program.#sizes.add(size));
    return program;
  }

  async end(): Promise<void> {
    this.#stop();
    await this.task.exit();
  }

  get #mm(): AddressSpace {
    return this.task.mm as AddressSpace;
  }

  /** The memory that the test maps: a BAR, pages of 1 GiB (contiguous, nowhere else visible), or anonymous memory. */
  async #memory(id: string): Promise<bigint> {
    if (id.includes("mmio") || id.includes("pci-device-dma-map")) {
      const device = await this.#device();
      const mapping = this.task.fds.get(device.fd).ops.mmap?.(this.task, 0, 0x10_0000, true, true);
      return this.#mm.mmap({ length: 0x10_0000, shared: true, device: mapping });
    }
    if (id.includes("1gb"))
      return this.#mm.mmap({
        length: Number(GIB),
        shared: true,
        device: contiguous(GIB),
        address: 1n << 40n,
        fixed: true,
      });
    const length = Number(id.includes("huge") ? 2n * MIB2 : 64n * PAGE);
    const at = await this.#mm.mmap({ length, address: 1n << 40n, fixed: true });
    if (id.includes("huge")) await this.#mm.madvise(at, length, "hugepage");
    return at;
  }

  async #device(): Promise<VfioDevice> {
    const { edu, network, platform } = this.machine;
    const bdf = [edu, network].find((name) => platform.device(name).group?.id === this.group.id) ?? edu;
    return this.group.device(bdf);
  }

  async step({ op, args, expect }: CaseStep): Promise<void> {
    const handler = HANDLERS.find(({ pattern }) => pattern.test(op));
    if (!handler) this.#note(op, "the runner does not know the operation");
    else await handler.run(this, args, expect, op);
  }

  #note(what: string, got: string, wanted?: unknown): void {
    this.differences.push(`${what}: ${got}${wanted === undefined ? "" : `, expected ${JSON.stringify(wanted)}`}`);
  }

  /** Makes a call and compares how it ends. @returns its value; undefined when it was refused */
  async call<T>(what: string, expect: unknown, body: () => Promise<T>): Promise<T | undefined> {
    const wanted = (expect as { errno?: string } | null)?.errno;
    try {
      const value = await body();
      if (wanted !== undefined || /error/.test(String(expect))) this.#note(what, "success", expect);
      return value;
    } catch (error) {
      if (!isErrno(error)) throw error;
      const any = typeof expect === "string" && expect.includes("error");
      if (!any && (error as IommuError).code !== wanted) this.#note(what, error.message, expect);
      return undefined;
    }
  }

  async map(
    expect: unknown,
    { iova, size }: Mapping,
    vaddr = this.#buffer,
    flags = DmaMapFlags.READ | DmaMapFlags.WRITE,
  ) {
    this.#last = { iova, size };
    await this.call(`MAP 0x${iova.toString(16)}+0x${size.toString(16)}`, expect, () =>
      this.container.mapDma({ iova, vaddr, size, flags }),
    );
  }

  async unmap(expect: unknown, { iova, size }: Mapping): Promise<bigint> {
    const what = `UNMAP 0x${iova.toString(16)}+0x${size.toString(16)}`;
    const done = (await this.call(what, expect, () => this.container.unmapDma({ iova, size }))) ?? 0n;
    this.#checkSize(what, done, expect);
    return done;
  }

  #checkSize(what: string, done: bigint, expect: unknown): void {
    const { size_out, unmapped = size_out } = (expect ?? {}) as { size_out?: unknown; unmapped?: unknown };
    if (unmapped !== undefined && done !== toSize(unmapped)) this.#note(what, `${done} bytes`, unmapped);
  }

  // The operations of Linux's selftests.

  async mapStep(args: CaseStep["args"], expect: unknown): Promise<void> {
    const bar = typeof args.vaddr === "string" && args.vaddr.includes("BAR");
    const size = args.size === "BAR" ? 0x10_0000n : toSize(args.size ?? PAGE);
    // "4K only": the BAR is mapped at an address that is no multiple of its size; the IOVA follows it.
    const iova = bar && args.vaddr_alignment === "4K only" ? GIB + PAGE : await this.#iova(args.iova);
    await this.map(expect, { iova, size });
  }

  async #iova(text: unknown): Promise<bigint> {
    if (typeof text === "string" && text.startsWith("0x")) return BigInt(text);
    if (typeof text === "number") return BigInt(text);
    if (text === "APERTURE_START") return APERTURE_START;
    if (text === "same") return this.#last.iova;
    if (text === "last iova & ~0xfff")
      return ((await this.container.info()).iovaRanges.at(-1)?.end ?? 0n) & ~(PAGE - 1n);
    return 4n * GIB;
  }

  async unmapStep(args: CaseStep["args"], expect: unknown): Promise<void> {
    if (args.flags === "ALL") {
      await this.#unmapAll(args, expect);
      return;
    }
    const iova = args.iova === undefined ? this.#last.iova : await this.#iova(args.iova);
    await this.unmap(expect, { iova, size: args.size === undefined ? this.#last.size : toSize(args.size) });
  }

  async #unmapAll(args: CaseStep["args"], expect: unknown): Promise<void> {
    const range = { iova: args.iova === undefined ? 0n : await this.#iova(args.iova), size: toSize(args.size ?? 0) };
    const done = await this.call("UNMAP ALL", expect, () => this.container.unmapAll(range));
    if (done !== undefined) this.#checkSize("UNMAP ALL", done, expect);
  }

  /** The library's look-up of an address that it mapped: here, what the IOMMU translates. */
  translated(expect: unknown): void {
    const group = this.machine.platform.groups.all.get(this.group.id);
    const pa = group?.domain?.ops.iovaToPhys(group.domain, this.#last.iova);
    if ((pa !== undefined) !== (expect !== "not found")) this.#note("HVA2IOVA", `${pa}`, expect);
  }

  /** The page size at the mapping's address, which the test reads from debugfs; not for v1, which maps page by page. */
  pageTableLevel(): void {
    if (this.type === 1) return;
    const [size] = this.#sizes;
    const wanted = Number(this.#last.size);
    if (size !== wanted) this.#note("page size", [...this.#sizes].join(", "), wanted);
  }

  async repeat(args: CaseStep["args"], shuffled: boolean): Promise<void> {
    const order = Array.from({ length: 16 }, (_, i) => i);
    if (shuffled) for (let i = 15; i > 0; i--) swap(order, i, this.#random.u32() % (i + 1));
    const [{ op, args: inner, expect }] = args.do as readonly CaseStep[];
    const size = toSize(inner.size === "2*HPAGE/16" ? (2n * MIB2) / 16n : (inner.size ?? PAGE));
    for (const i of order) {
      const range = { iova: APERTURE_START + BigInt(i) * size, size };
      if (op.startsWith("MAP")) await this.map(expect, range, this.#buffer + BigInt(i) * size);
      else await this.unmap(expect, range);
    }
  }

  // Configuration space, BARs, reset, interrupts.

  async config(op: string, args: CaseStep["args"], expect: unknown): Promise<void> {
    const device = await this.#device();
    const at = args.off as number;
    const [low, high] = await device.read(CONFIG, at, 2);
    if (op === "CFG_WRITE") {
      const value = (low | (high << 8) | Number(args.set ?? 0)) & ~Number(args.clear ?? 0);
      await this.call(op, expect, () => device.write(CONFIG, at, Uint8Array.of(value & 0xff, value >> 8)));
    } else if (at === 4) {
      const master = (low & 4) !== 0;
      if (master !== (expect === "BusMaster=1")) this.#note(op, `command 0x${low.toString(16)}`, expect);
    } else if (low !== 0x34 || high !== 0x12)
      this.#note(op, `vendor 0x${high.toString(16)}${low.toString(16)}`, expect);
    this.#keep ??= device;
  }

  /** The first descriptor stays open: closing the last one would stop the device's DMA. */
  #keep: VfioDevice | undefined;

  async bars(): Promise<void> {
    const device = await this.#device();
    for (let bar = 0; bar < 6; bar++) {
      const { flags, size } = await device.regionInfo(bar);
      if ((flags & MMAP_FLAG) === 0) continue;
      if (size === 0n || (size & (size - 1n)) !== 0n) this.#note(`BAR ${bar}`, `size ${size}`);
      const mapping = this.task.fds.get(device.fd).ops.mmap?.(this.task, bar * 2 ** 40, Number(size), true, true);
      if (!mapping) this.#note(`BAR ${bar}`, "cannot be mapped");
      mapping?.close();
    }
    if (((await device.regionInfo(CONFIG)).flags & MMAP_FLAG) !== 0) this.#note("configuration space", "can be mapped");
    await device.close();
  }

  async reset(expect: unknown): Promise<void> {
    const device = await this.#device();
    if (((await device.info()).flags & 1) !== 0) await this.call("RESET", expect, () => device.reset());
    else this.#note("RESET", "the device cannot be reset");
  }

  get #irq(): number {
    return this.id.includes("msix") ? PciIrq.MSIX : PciIrq.MSI;
  }

  async setIrqs(args: CaseStep["args"], expect: unknown): Promise<void> {
    this.#keep ??= await this.#device();
    const device = this.#keep;
    const { scheduler } = this.machine.platform;
    if (args.data === "EVENTFD") {
      const count = Math.min((await device.irqInfo(this.#irq)).count, 16);
      for (let i = 0; i < count; i++) this.#events.push(new EventFd(scheduler, 0, true));
      const fds = this.#events.map((event) => this.task.fds.install(new OpenFile(event, O.RDWR)));
      await this.call("SET_IRQS", expect, () => device.setIrqs(this.#irq, fds));
    } else if (args.start === "i") {
      for (let i = 0; i < this.#events.length; i++)
        await this.call("SET_IRQS", expect, () => device.triggerIrq(this.#irq, i));
    } else await this.call("SET_IRQS", "ok", () => device.disableIrqs(this.#irq));
  }

  async readEvents(expect: unknown): Promise<void> {
    for (const event of this.#events) {
      const bytes = new Uint8Array(8);
      const done = await this.call("read eventfd", typeof expect === "string" ? "ok" : expect, () =>
        event.read(this.task, bytes),
      );
      if (done !== undefined && bytes[0] !== 1) this.#note("read eventfd", `${bytes[0]}`, expect);
    }
  }

  // awilliam/tests.

  async setup(op: string, args: CaseStep["args"], expect: unknown): Promise<void> {
    const device = op.startsWith("DEVICE") ? await this.#device() : undefined;
    const checks: Readonly<Record<string, () => Promise<boolean>>> = {
      GET_API_VERSION: async () => (await this.container.apiVersion()) === 0,
      GROUP_GET_STATUS: async () => ((await this.group.status()) & 1) !== 0,
      CHECK_EXTENSION: async () => (await this.container.checkExtension(args.type as number)) > 0,
      GROUP_GET_DEVICE_FD: async () => (await this.#device()).fd >= 0,
      DEVICE_GET_INFO: async () => (await device?.info())?.numRegions === 9,
      DEVICE_GET_REGION_INFO: async () => (((await device?.regionInfo(CONFIG))?.flags ?? MMAP_FLAG) & MMAP_FLAG) === 0,
      DEVICE_GET_IRQ_INFO: async () => (await device?.irqInfo(PciIrq.MSI)) !== undefined,
    };
    // Opening, attaching and SET_IOMMU came first: without them there would be no program.
    if (checks[op] && !(await checks[op]())) this.#note(op, "not as expected", expect);
  }

  async pages(op: string, expect: unknown): Promise<void> {
    const backwards = op.includes("backwards") || this.#backwards;
    const order = pageOrder(/even/.test(op), backwards);
    if (op.startsWith("same, backwards")) {
      this.#backwards = true;
      await this.pages("MAP even then odd pages", "ok");
      await this.pages("UNMAP even then odd", { size_out: 4096 });
    } else if (op.includes("UNMAP"))
      for (const page of order) await this.unmap(expect, { iova: BigInt(page) * PAGE, size: PAGE });
    else for (const page of order) await this.map(expect, { iova: BigInt(page) * PAGE, size: PAGE });
  }

  #backwards = false;

  async hugePage(op: string, expect: unknown): Promise<void> {
    const whole = { iova: 0n, size: MIB2 };
    if (op.startsWith("MAP")) await this.map(expect, whole);
    else if (op === "UNMAP whole") await this.unmap(expect, whole);
    else {
      let sum = 0n;
      for (let at = MIB2 - PAGE; at >= 0n; at -= PAGE) sum += await this.unmap("ok", { iova: at, size: PAGE });
      if (sum !== MIB2) this.#note(op, `${sum} bytes in all`, expect);
    }
  }

  /** 262,144 mappings; the test makes them thirty times to measure, twice shows that nothing is left. */
  async manyPages(expect: unknown): Promise<void> {
    for (let page = 0n; page < GIB / PAGE; page++) await this.map(expect, { iova: page * PAGE, size: PAGE });
  }

  async mapBar(op: string, expect: unknown): Promise<void> {
    const range = { iova: 4n * GIB, size: 0x10_0000n };
    if (op.startsWith("UNMAP")) await this.unmap(expect, range);
    else await this.map(expect, range, this.#buffer, DmaMapFlags.READ);
  }

  /** Again, to see that the first time left nothing behind. */
  async again(): Promise<void> {
    await this.manyPages("ok");
    await this.unmap({ size_out: GIB }, { iova: 0n, size: GIB });
  }

  async setIommu(args: CaseStep["args"], expect: unknown): Promise<void> {
    if (!this.id.includes("wrong_type")) return;
    const type = String(args.type).startsWith("NOIOMMU") ? 8 : this.type;
    await this.call("SET_IOMMU", expect, () => this.container.setIommu(type));
  }
}

interface Handler {
  readonly pattern: RegExp;
  run(program: CaseProgram, args: CaseStep["args"], expect: unknown, op: string): Promise<void> | void;
}

const HANDLERS: readonly Handler[] = [
  { pattern: /^MAP(_DMA)?$/, run: (program, args, expect) => stepOf(program, "map", args, expect) },
  { pattern: /^UNMAP(_DMA)?$/, run: (program, args, expect) => stepOf(program, "unmap", args, expect) },
  { pattern: /^UNMAP_ALL$/, run: (program, _args, expect) => program.unmapStep({ flags: "ALL" }, expect) },
  { pattern: /^HVA2IOVA$/, run: (program, _args, expect) => program.translated(expect) },
  { pattern: /^PAGE_TABLE_LEVEL$/, run: (program) => program.pageTableLevel() },
  { pattern: /^REPEAT/, run: (program, args, _expect, op) => program.repeat(args, op.endsWith("SHUFFLED")) },
  { pattern: /^CFG_/, run: (program, args, expect, op) => program.config(op, args, expect) },
  { pattern: /^for BAR/, run: (program) => program.bars() },
  { pattern: /^DEVICE_RESET$/, run: (program, _args, expect) => program.reset(expect) },
  { pattern: /^SET_IRQS$/, run: (program, args, expect) => program.setIrqs(args, expect) },
  { pattern: /read eventfd$/, run: (program, _args, expect) => program.readEvents(expect) },
  {
    pattern: /^(open|GET_API|readlink|GROUP_|CHECK_|DEVICE_GET)/,
    run: (program, args, expect, op) => program.setup(op, args, expect),
  },
  { pattern: /^SET_IOMMU$/, run: (program, args, expect) => program.setIommu(args, expect) },
  {
    pattern: /^(for iova|same|for each: UNMAP|again|MAP even|MAP backwards|UNMAP even|UNMAP backwards)/,
    run: (program, _args, expect, op) => program.pages(op, expect),
  },
  {
    pattern: /^(MAP same|UNMAP whole$|MAP again|UNMAP 4K pieces)/,
    run: (program, _args, expect, op) => program.hugePage(op, expect),
  },
  { pattern: /^262144/, run: (program, _args, expect) => program.manyPages(expect) },
  { pattern: /^repeat/, run: (program) => program.again() },
  { pattern: /^(mmap BAR|UNMAP whole range)/, run: (program, _args, expect, op) => program.mapBar(op, expect) },
];

function stepOf(program: CaseProgram, kind: "map" | "unmap", args: CaseStep["args"], expect: unknown): Promise<void> {
  return kind === "map" ? program.mapStep(args, expect) : program.unmapStep(args, expect);
}

/** 65536, "2M (or hugepage)", "1G", "2*HPAGE". */
function toSize(value: unknown): bigint {
  if (typeof value !== "string") return BigInt(value as number | bigint);
  if (value.startsWith("2*HPAGE")) return 2n * MIB2;
  if (value.startsWith("2M")) return MIB2;
  return value.startsWith("1G") ? GIB : BigInt(value);
}

/** The pages of 2 MiB: upwards, downwards, or every second one and then the others. */
function pageOrder(checkered: boolean, backwards: boolean): number[] {
  const all = Array.from({ length: 512 }, (_, page) => page);
  const order = checkered ? [...all.filter((page) => page % 2 === 0), ...all.filter((page) => page % 2 === 1)] : all;
  return backwards ? order.reverse() : order;
}

function swap(list: number[], a: number, b: number): void {
  [list[a], list[b]] = [list[b], list[a]];
}

/** Physically contiguous memory of that size and alignment that takes no room: hugetlb pages of 1 GiB. */
function contiguous(size: bigint): FileMapping {
  const base = 2 ** 40;
  return { page: (offset) => (BigInt(offset) < size ? base + offset : undefined), close: () => {} };
}
