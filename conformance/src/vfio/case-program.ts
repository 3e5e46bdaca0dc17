/** One program of the peers' cases: what it has open and mapped, its calls, and what differed from what was expected of them. */
import {
  type AddressSpace,
  type EventFd,
  type FileMapping,
  type IommuError,
  isErrno,
  Random,
  type Task,
} from "@iommukit/core";
import { DmaMapFlags, VfioContainer, type VfioDevice, type VfioGroup } from "@iommukit/vfio-type1";
import type { CaseMachine } from "./case-machine.js";
import { evaluate, type Symbols } from "./case-values.js";

export interface CaseStep {
  readonly op: string;
  readonly args?: CaseArguments;
  readonly expect?: unknown;
}

export type CaseArguments = Readonly<Record<string, unknown>>;

/** One kind of step, by the words of its operation. */
export interface StepHandler {
  readonly pattern: RegExp;
  run(program: CaseProgram, args: CaseArguments, expect: unknown, op: string): Promise<void> | void;
}

interface Mapping {
  readonly iova: bigint;
  readonly size: bigint;
}

export const PAGE = 4096n;
export const MIB2 = 0x20_0000n;
export const GIB = 0x4000_0000n;
/** Of edu's BAR. */
export const BAR_SIZE = 0x10_0000n;

/** Where the mock IOMMU of iommufd's tests begins. */
const APERTURE_START = 1n << 24n;
const CONSTANTS: Symbols = { APERTURE_START, A: APERTURE_START, HPAGE: MIB2, PAGE, p: PAGE, NULL: 0n };

export class CaseProgram {
  readonly differences: string[] = [];
  readonly random = new Random(1);
  /** Sizes of the mappings that the IOMMU's driver was asked for. */
  readonly pageSizes = new Set<number>();
  /** The memory that the test maps. */
  buffer = 0n;
  last: Mapping = { iova: 0n, size: PAGE };
  /** The i of a repetition. */
  index = 0n;
  /** What the interrupts signal. */
  readonly events: EventFd[] = [];
  #kept: VfioDevice | undefined;
  #stop: () => void = () => {};

  private constructor(
    readonly machine: CaseMachine,
    readonly task: Task,
    readonly type: number,
    readonly id: string,
    readonly container: VfioContainer,
    readonly group: VfioGroup,
  ) {}

  static async start(machine: CaseMachine, type: number, id: string): Promise<CaseProgram> {
    const { platform, edu, network } = machine;
    const task = platform.kernel.spawn({ name: id });
    const container = await VfioContainer.open(task);
    const bdf = id.includes("msix") || id.endsWith(".reset") ? network : edu;
    const group = await container.attach(platform.device(bdf).group?.id ?? -1);
    const program = new CaseProgram(machine, task, type, id, container, group);
    if (!id.includes("wrong_type")) await container.setIommu(type);
    program.buffer = await program.#memory(id);
    program.#stop = platform.trace.on("iommu:mapped", ({ size }) => program.pageSizes.add(size));
    return program;
  }

  async end(): Promise<void> {
    this.#stop();
    await this.task.exit();
  }

  get symbols(): Symbols {
    return { ...CONSTANTS, BUF: this.buffer, HUGETLB: this.buffer, i: this.index };
  }

  get #mm(): AddressSpace {
    return this.task.mm as AddressSpace;
  }

  /** The memory that the test maps: a BAR, pages of 1 GiB (contiguous, nowhere else visible), or anonymous memory. */
  async #memory(id: string): Promise<bigint> {
    if (id.includes("mmio") || id.includes("pci-device-dma-map")) {
      const device = await this.device();
      const mapping = this.task.fds.get(device.fd).ops.mmap?.(this.task, 0, Number(BAR_SIZE), true, true);
      return this.#mm.mmap({ length: Number(BAR_SIZE), shared: true, device: mapping });
    }
    if (id.includes("1gb"))
      return this.#mm.mmap({
        length: Number(GIB),
        shared: true,
        device: contiguous(GIB),
        address: 1n << 40n,
        fixed: true,
      });
    const length = Number(GIB);
    const at = await this.#mm.mmap({ length, address: 1n << 40n, fixed: true });
    if (id.includes("huge")) await this.#mm.madvise(at, length, "hugepage");
    return at;
  }

  /** A descriptor that stays open: closing the last one would stop the device's DMA and its interrupts. */
  async keptDevice(): Promise<VfioDevice> {
    this.#kept ??= await this.device();
    return this.#kept;
  }

  async device(): Promise<VfioDevice> {
    const { edu, network, platform } = this.machine;
    const bdf = [edu, network].find((name) => platform.device(name).group?.id === this.group.id) ?? edu;
    return this.group.device(bdf);
  }

  note(what: string, got: string, wanted?: unknown): void {
    this.differences.push(`${what}: ${got}${wanted === undefined ? "" : `, expected ${JSON.stringify(wanted)}`}`);
  }

  /** Makes a call and compares how it ends. @returns its value; undefined when it was refused */
  async call<T>(what: string, expect: unknown, body: () => Promise<T>): Promise<T | undefined> {
    const wanted = (expect as { errno?: string } | null)?.errno;
    try {
      const value = await body();
      if (wanted !== undefined || /error/.test(String(expect))) this.note(what, "success", expect);
      return value;
    } catch (error) {
      if (!isErrno(error)) throw error;
      const any = typeof expect === "string" && expect.includes("error");
      if (!any && (error as IommuError).code !== wanted) this.note(what, error.message, expect);
      return undefined;
    }
  }

  async map(
    expect: unknown,
    { iova, size }: Mapping,
    vaddr = this.buffer,
    flags = DmaMapFlags.READ | DmaMapFlags.WRITE,
  ) {
    this.last = { iova, size };
    await this.call(`MAP 0x${iova.toString(16)}+0x${size.toString(16)}`, expect, () =>
      this.container.mapDma({ iova, vaddr, size, flags }),
    );
  }

  async unmap(expect: unknown, { iova, size }: Mapping): Promise<bigint> {
    const what = `UNMAP 0x${iova.toString(16)}+0x${size.toString(16)}`;
    const done = (await this.call(what, expect, () => this.container.unmapDma({ iova, size }))) ?? 0n;
    this.checkSize(what, done, expect);
    return done;
  }

  checkSize(what: string, done: bigint, expect: unknown): void {
    const { size_out, unmapped = size_out } = (expect ?? {}) as { size_out?: unknown; unmapped?: unknown };
    if (unmapped !== undefined && done !== toSize(unmapped)) this.note(what, `${done} bytes`, unmapped);
  }
}

/** 65536, "2M (or hugepage)", "2*HPAGE", "A+i*4096". */
export function toSize(value: unknown, symbols: Symbols = CONSTANTS): bigint {
  return evaluate(value, symbols);
}

/** Physically contiguous memory of that size and alignment that takes no room: hugetlb pages of 1 GiB. */
function contiguous(size: bigint): FileMapping {
  const base = 2 ** 40;
  return { page: (offset) => (BigInt(offset) < size ? base + offset : undefined), close: () => {} };
}
